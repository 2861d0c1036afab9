"""Labels tell the points of a search apart in few words."""

from typing import Any

import pytest

from rlssl.analysis.labels import point_labels


@pytest.mark.parametrize(
    ("points", "labels"),
    [
        # The whole section, or one loss.
        ([{"auxiliary": {"curl": None}}, {"auxiliary": {"curl": {}}}], ["none", "curl"]),
        ([{"auxiliary.curl": None}, {"auxiliary.curl": {}}], ["none", "curl"]),
        ([{"auxiliary": {}}, {"auxiliary": {"icm": {"coeff": 0.1}}}], ["none", "icm"]),
        # Options only where they differ.
        (
            [
                {"auxiliary": {"icm": {"coeff": 0.1, "lr": 1}}},
                {"auxiliary": {"icm": {"coeff": 2.0, "lr": 1}}},
            ],
            ["icm coeff=0.1", "icm coeff=2"],
        ),
        (
            [
                {"auxiliary": {"icm": {}}},
                {"auxiliary": {"icm": {"coeff": 2.0}}},
                {"auxiliary": None},
            ],
            ["icm", "icm coeff=2", "none"],
        ),
        (
            [{"auxiliary": {"icm": {}}}, {"auxiliary": {"icm": {}, "curl": {}}}],
            ["icm", "icm + curl"],
        ),
        # Names are as short as they can be.
        (
            [
                {"auxiliary.icm.coeff": 0.1, "auxiliary.curl.coeff": 1},
                {"auxiliary.icm.coeff": 0.2, "auxiliary.curl.coeff": 2},
            ],
            ["icm.coeff=0.1, curl.coeff=1", "icm.coeff=0.2, curl.coeff=2"],
        ),
        ([{"training.lr": 0.1}, {"training.lr": 0.00123456}], ["lr=0.1", "lr=0.001235"]),
        (
            [
                {"training.lr": 0.1, "training.gamma": 0.9},
                {"training.lr": 0.2, "training.gamma": 0.9},
            ],
            ["lr=0.1", "lr=0.2"],
        ),
        (
            [{"env.seed": 1, "model.seed": 2}, {"env.seed": 2, "model.seed": 1}],
            ["env.seed=1, model.seed=2", "env.seed=2, model.seed=1"],
        ),
        # Names of algorithms and the like stand alone.
        ([{"algorithm": "ppo"}, {"algorithm": "sac"}], ["ppo", "sac"]),
        ([{"variant": None}, {"variant": "clip"}], ["no variant", "clip"]),
        ([{"env": "CartPole-v1"}, {"env": {"id": "Acrobot-v1"}}], ["CartPole-v1", "Acrobot-v1"]),
        # Other sections.
        (
            [{"model.lstm": None}, {"model.lstm": {}}, {"model.lstm": {"hidden": 8}}],
            ["lstm=null", "lstm", "lstm, hidden=8"],
        ),
        ([{"training.clip": True}, {"training.clip": 1}], ["clip=true", "clip=1"]),
        # One point alone.
        ([{}], ["default"]),
        ([{"training.lr": 0.1, "auxiliary": {"icm": {}}}], ["lr=0.1, icm"]),
        ([{"auxiliary": {}}], ["none"]),
        ([{"model": {}}, {"model": {"lstm": {"hidden": 8}}}], ["default", "lstm"]),
        (
            [{"env": "A-v1"}, {"env": {"id": "A-v1", "max_episode_steps": 9}}],
            ["default", "max_episode_steps=9"],
        ),
    ],
)
def test_label_has_what_differs(points: list[dict[str, Any]], labels: list[str]) -> None:
    assert point_labels(points) == labels


def test_close_numbers_get_all_their_digits() -> None:
    labels = point_labels([{"training.lr": 0.123451}, {"training.lr": 0.123452}])
    assert labels == ["lr=0.123451", "lr=0.123452"]


def test_labels_are_different_where_short_ones_would_be_equal() -> None:
    points: list[dict[str, Any]] = [{"auxiliary": {}}, {"auxiliary": {"curl": None}}]
    assert point_labels(points) == [
        'none ({"auxiliary": {}}) #0',
        'none ({"auxiliary": {"curl": null}}) #1',
    ]
    long: list[dict[str, Any]] = [
        {"training.schedule": [[0, 1.0]] * 9 + [[1, last]]} for last in (1, 2)
    ]
    assert len(set(point_labels(long))) == 2


def test_letters_of_other_languages_stay_as_they_are() -> None:
    points: list[dict[str, Any]] = [{"env.maps": [name]} for name in ("forêt", "長さ")]
    assert point_labels(points) == ['maps=["forêt"]', 'maps=["長さ"]']
