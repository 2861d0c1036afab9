"""`rlssl list` and `rlssl.list_names`: all names, and those with some words."""

import json

import pytest
from click.testing import CliRunner

import rlssl
from rlssl.cli import main
from rlssl.errors import SpecError
from rlssl.experiment.names import KINDS, loss_names, presets_of
from rlssl.registry import ALGORITHMS, AUXILIARY_LOSSES


def listed(*words: str) -> str:
    result = CliRunner().invoke(main, ["list", *words])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_presets_are_listed_with_their_algorithms() -> None:
    assert "dqn                          of algorithm rainbow: --preset dqn\n" in listed("presets")
    for name in ALGORITHMS:
        config = ALGORITHMS[name]
        assert presets_of(name, "presets") == list(config.presets)
        assert presets_of(name, "variants") == list(config.variants)
        found = [row["name"] for row in rlssl.list_names("presets") if row["algorithm"] == name]
        assert found == list(config.presets)


def test_words_filter_names_notes_and_algorithms_in_any_case() -> None:
    assert [row["name"] for row in rlssl.list_names("envs", "MEMORY", "cue")] == ["memory/cue"]
    found = {(row["kind"], row["name"]) for row in rlssl.list_names("curl")}
    assert {("losses", "curl"), ("encoders", "curl"), ("presets", "curl")} <= found
    assert {("presets", "curl_atari100k")} <= found
    lines = listed("curl").splitlines()
    assert len(lines) == len(found) and "losses      curl" in "\n".join(lines)


def test_the_function_and_the_command_give_the_same_rows() -> None:
    for words in (["algorithms"], ["presets", "rainbow"]):
        result = CliRunner().invoke(main, ["list", *words, "--json"])
        assert json.loads(result.stdout) == rlssl.list_names(*words)


def test_words_that_nothing_has_are_an_error_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match=r"nothing has 'rainbwo'; did you mean 'rainbow'\?"):
        rlssl.list_names("algorithms", "rainbwo")


def test_the_help_of_train_names_everything_that_is_registered() -> None:
    text = " ".join(CliRunner().invoke(main, ["train", "--help"]).stdout.split())
    assert "rlssl list [KIND] [WORD]" in text
    for name in ALGORITHMS:
        assert name in text
        for known in (*ALGORITHMS[name].presets, *ALGORITHMS[name].variants):
            assert known in text
    for name in set(loss_names()) & set(AUXILIARY_LOSSES):
        assert name in text
    assert set(KINDS) >= {"envs", "presets", "losses"}
