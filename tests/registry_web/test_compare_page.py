"""Two versions side by side: what breaks callers first, in words, then everything else that differs."""

from __future__ import annotations

import pytest

from apps.kernel.actor import SYSTEM
from apps.registry.models import ModelVersion
from apps.registry.services.aliases import alias_move
from apps.registry.services.catalogue import model_register
from apps.registry.web.differences import better_up
from tests.registry_web.conftest import Shelf


def page(shelf: Shelf, a: str = "", b: str = "", who: str = "vera") -> str:
    return shelf.enter(who).get("/models/fraud/compare/", {"a": a, "b": b}).content.decode()


def test_what_breaks_callers_stands_first_and_in_words(shelf: Shelf) -> None:
    html = page(shelf, "1.1.0", "2.0.0")
    assert "Whoever calls 1.1.0 cannot be given 2.0.0" in html
    assert "Input &#x27;airline&#x27; (string) is new and required." in html
    fields = html.split('id="inputs"')[1]
    assert fields.index("airline") < fields.index("dep_delay")


def test_a_version_that_fits_says_so(shelf: Shelf) -> None:
    html = page(shelf, "1.0.0", "1.1.0")
    assert "Every call made for 1.0.0 is answered by 1.1.0." in html


def test_metrics_have_their_difference_and_whether_it_is_better(shelf: Shelf) -> None:
    metrics = page(shelf, "1.0.0", "1.1.0").split('id="metrics"')[1].split("</section>")[0]
    assert "+0.05" in metrics
    assert "-0.05" in metrics
    assert metrics.count("better") == 2, "a higher auc and a lower loss"
    back = page(shelf, "1.1.0", "1.0.0").split('id="metrics"')[1].split("</section>")[0]
    assert back.count("worse") == 2


@pytest.mark.parametrize(
    ("name", "is_up"),
    [("roc_auc", True), ("accuracy", True), ("f1_score", True), ("val_loss", False), ("log_loss", False),
     ("rmse", False), ("error_rate", False), ("rows", None), ("macro", None), ("lossless_share", None)],
)  # fmt: skip
def test_the_name_of_a_metric_tells_which_way_is_better_or_nothing(name: str, is_up: bool | None) -> None:
    assert better_up(name) is is_up


def test_changed_parameters_come_first(shelf: Shelf) -> None:
    params = page(shelf, "1.0.0", "1.1.0").split('id="params"')[1].split("</section>")[0]
    assert "1 changed" in params
    assert params.index("depth") < params.index("seed")


def test_metrics_of_other_data_are_called_that(shelf: Shelf) -> None:
    for semver, digest in (("1.0.0", "a" * 64), ("1.1.0", "b" * 64)):
        ModelVersion.objects.filter(pk=shelf.versions[semver].pk).update(metrics_data_digest=f"sha256:{digest}")
    assert "measured on different data" in page(shelf, "1.0.0", "1.1.0")


def test_what_the_training_data_looked_like_is_compared(shelf: Shelf) -> None:
    profile = {"columns": {"month": {"mean": 6.5, "count": 100}}}
    ModelVersion.objects.filter(pk=shelf.versions["1.1.0"].pk).update(reference_profile=profile)
    assert "mean 6.5, count 100" in page(shelf, "1.0.0", "1.1.0")


def test_without_a_choice_the_champion_is_compared_with_the_newest(shelf: Shelf) -> None:
    alias_move(actor=SYSTEM, model_name="fraud", alias="champion", version="1.0.0")
    assert "Whoever calls 1.0.0 cannot be given 2.0.0" in page(shelf)


def test_sides_are_found_by_alias_and_swapped_by_a_link(shelf: Shelf) -> None:
    alias_move(actor=SYSTEM, model_name="fraud", alias="champion", version="1.0.0")
    assert 'href="?a=1.1.0&amp;b=1.0.0"' in page(shelf, "champion", "2")


def test_a_side_that_is_none_is_named_and_the_others_can_be_chosen(shelf: Shelf) -> None:
    answer = shelf.enter("vera").get("/models/fraud/compare/", {"a": "9.9.9", "b": "1.0.0"})
    html = answer.content.decode()
    assert answer.status_code == 404
    assert "There is no version 9.9.9 of fraud" in html
    assert '<select id="a"' in html


def test_one_version_or_none_says_that_there_is_nothing_to_compare(shelf: Shelf) -> None:
    assert "Both sides are 1.0.0" in page(shelf, "1.0.0", "1.0.0")
    model_register(actor=SYSTEM, name="new", team="risk")
    html = shelf.enter("vera").get("/models/new/compare/").content.decode()
    assert "has no version yet" in html


def test_a_foreign_model_is_not_compared(shelf: Shelf) -> None:
    assert shelf.enter("finn").get("/models/fraud/compare/?a=1.0.0&b=1.1.0").status_code == 404
