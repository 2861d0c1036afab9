"""Names and locks of runs on an object store; the operations of `rlssl.experiment.storage`."""

import contextlib
import time
import uuid

from rlssl.experiment.storage import LocalStorage
from rlssl.system.stores.objects import Objects
from rlssl.system.stores.places import Place

#: Object in a run: the name of the run is taken.
CLAIM = "claim.json"

#: Seconds after which a process reads again what it has created.
SETTLE_S = 1.0


class ObjectStorage:
    """The objects below a place, as a `rlssl.experiment.storage.Storage`.

    An object store cannot create an object only if it does not exist yet. So ``create`` writes,
    waits and reads: of several processes that write within `SETTLE_S`, only the last one keeps
    the object. Processes whose writes take longer may both get True. The later heartbeats of a lock
    then find the other process.

    Args:
        place: The storage; paths are relative to it.
    """

    def __init__(self, place: Place) -> None:
        self._objects = Objects(place)

    def claim(self, name: str) -> bool:
        """Takes the name of a run; False if there are objects below it."""
        if self._objects.exists(name):
            return False
        return self.create(f"{name}/{CLAIM}", uuid.uuid4().hex.encode())

    def create(self, path: str, content: bytes) -> bool:
        """Writes a new object, whose content no other process writes; False if it exists."""
        if self._objects.get(path) is not None:
            return False
        self._objects.put(path, content)
        time.sleep(SETTLE_S)
        return self._objects.get(path) == content

    def replace(self, path: str, content: bytes) -> None:
        """Writes an object, in one step for its readers."""
        self._objects.put(path, content)

    def read(self, path: str) -> bytes | None:
        """The content of an object; None if there is none."""
        return self._objects.get(path)

    def touch(self, path: str) -> None:
        """Writes an object again, so that its time is now."""
        content = self._objects.get(path)
        if content is None:
            raise FileNotFoundError(path)
        self._objects.put(path, content)

    def age_s(self, path: str) -> float:
        """Seconds since an object was written, by the server's clock; inf without it."""
        found = self._objects.info(path)
        if found is None:
            return float("inf")
        probe = f"{path}.{uuid.uuid4().hex[:8]}.now"
        self._objects.put(probe, b"now")
        now = self._objects.info(probe)
        self._objects.delete(probe)
        return 0.0 if now is None else max(0.0, now.mtime - found.mtime)

    def delete(self, path: str) -> None:
        """Deletes an object, if it exists."""
        self._objects.delete(path)


class CopiedStorage(LocalStorage):
    """The local copy of a storage. A name is free if it is free there and on the store.

    Args:
        place: The storage.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(place.folder)
        self._store, self._objects = ObjectStorage(place), Objects(place)

    def claim(self, name: str) -> bool:
        """Takes the name of a run, here and on the store."""
        if not self._store.claim(name):
            return False
        if super().claim(name):
            return True
        self._objects.delete_all(name)
        return False

    def forget(self, name: str) -> None:
        """Deletes the folder and the objects of a run."""
        super().forget(name)
        with contextlib.suppress(OSError):
            self._objects.delete_all(name)
