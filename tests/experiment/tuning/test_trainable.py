"""Experiments saved by earlier versions find the Trainable."""

import importlib

from rlssl.experiment.tuning.trainable import TRAINABLE_NAME, SpecTrainable


def test_tunes_name_in_saved_experiments_is_kept() -> None:
    # tuner.pkl and every trial's state hold this name; Tune refuses to resume with another one.
    assert TRAINABLE_NAME == "TrialRunner"


def test_old_module_and_class_name_find_the_trainable() -> None:
    old_module = importlib.import_module("rlssl.experiment.trial")
    assert old_module.TrialRunner is SpecTrainable


def test_names_in_the_tuner_files_of_earlier_versions_are_kept() -> None:
    # A sweep's tuner.pkl holds its scheduler, and every trial's state the name of its folder.
    launch = importlib.import_module("rlssl.experiment.tuning.launch")
    seeded_asha = importlib.import_module("rlssl.experiment.tuning.seeded_asha")
    assert launch._folder_name and seeded_asha.SeededASHA
