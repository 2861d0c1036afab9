"""``python -m rlssl.cli`` is ``rlssl``."""

from rlssl.cli import main

if __name__ == "__main__":
    main()
