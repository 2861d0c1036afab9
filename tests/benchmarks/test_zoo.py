"""The zoo: entries, shipped policies, and the page's table."""

import json

import pytest

import rlssl
from benchmarks.zoo import page
from benchmarks.zoo.entries import ENTRIES, MOST_BYTES, Entry, finished
from rlssl.errors import SpecError
from rlssl.evaluation import evaluate_policy, summarize
from rlssl.experiment.spec.loading import load_spec
from rlssl.run_files import POLICY_FILE
from rlssl.zoo import FOLDER, zoo_folder, zoo_names


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_sweep_of_an_entry_is_valid(entry: Entry) -> None:
    spec = load_spec(entry.document(page.ROOT / "results"))
    assert spec.seeds == [0, 1, 2, 3, 4] and not spec.search


def test_every_result_has_its_policy_and_every_policy_its_result() -> None:
    measured = {f"zoo/{one['algorithm']}/{one['env']}" for one in finished()}
    assert sorted(measured) == zoo_names() != []


@pytest.mark.parametrize("name", zoo_names())
def test_a_shipped_policy_is_small_and_needs_no_trust(name: str) -> None:
    folder = zoo_folder(name)
    assert all(file.stat().st_size < MOST_BYTES for file in folder.iterdir())
    saved = json.loads((folder / POLICY_FILE).read_text(encoding="utf-8"))
    assert saved["plugins"] == []  # it needs no trust


@pytest.mark.parametrize("name", zoo_names())
def test_a_shipped_policy_plays_as_it_was_measured(name: str) -> None:
    (result,) = [one for one in finished() if f"zoo/{one['algorithm']}/{one['env']}" == name]
    policy = rlssl.load_policy(name)
    records = evaluate_policy(
        policy, policy.settings["env"], seeds=range(10_000, 10_008), explore=False
    )
    (seed,) = [one for one in result["seeds"] if one["seed"] == result["exported_seed"]]
    # Eight of the hundred episodes: within four standard errors of their mean.
    tolerance = 4 * seed["return_std"] / 8**0.5 + 1e-6
    assert abs(summarize(records)["episode_return_mean"] - seed["return"]) <= tolerance


def test_an_unknown_policy_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match=r"no policy 'zoo/ppo/CartPol-v1' comes with rlssl"):
        rlssl.load_policy("zoo/ppo/CartPol-v1")


def test_the_page_has_the_table_of_the_results() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert "\n".join(page.rows()) in text


def test_the_folder_of_policies_has_nothing_else() -> None:
    names = {path.name for path in FOLDER.glob("*/*/*")}
    assert names <= {"policy.json", "weights.safetensors"}
