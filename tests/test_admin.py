"""The admin: Retrain, a run's progress, promote, roll back, index health, and who may do what."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.catalogue import BROKEN, make_product, photo
from visualsearch.admin.curves import charts
from visualsearch.admin.figures import key_figures, tables
from visualsearch.admin.training_runs import RetrainForm
from visualsearch.conf import get_settings
from visualsearch.lifecycle import runs
from visualsearch.lifecycle.checkpoint_folders import STATE_PREFIX
from visualsearch.models import Checkpoint, IndexEntry, TrainingRun
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing

State = TrainingRun.State
pytestmark = pytest.mark.django_db

REPORT: dict[str, Any] = {
    "gallery": 100,
    "health": {"finite": True, "mean_cosine": 0.1},
    "lines": [
        {
            "section": section,
            "metric": metric,
            "system": system,
            "value": value,
            "low": value - 0.05,
            "high": value + 0.05,
            "queries": 100,
        }
        for section, metric, system, value in (
            ("similar", "kind P@10", "encoder", 0.8123),
            ("similar", "kind P@10", "raw pixels", 0.6),
            ("text", "title MRR", "encoder", 0.5),
            ("text", "title median rank", "encoder", 3.0),
            ("composed", "colour R@10", "composed", 0.45),
            ("composed", "colour R@10", "image-only", 0.2),
        )
    ],
}


@pytest.fixture(autouse=True)
def rings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    heard: list[str] = []
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", heard.append)
    return heard


@pytest.fixture(autouse=True)
def checkpoint_root(tmp_path: Path, settings: Any) -> Path:
    root = tmp_path / "checkpoints"
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"CHECKPOINT_ROOT": root}
    return root


@pytest.fixture
def owner(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("owner", "", "x"))
    return client


def url(name: str, *args: Any) -> str:
    return reverse(f"admin:visualsearch_{name}", args=args)


def staff(*permissions: str) -> Client:
    """Somebody who may enter the admin and has these permissions alone."""
    user = User.objects.create_user(f"staff-{uuid.uuid4()}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def running(**fields: Any) -> TrainingRun:
    now = timezone.now()
    values = {"state": State.RUNNING, "token": uuid.uuid4(), "heartbeat_at": now, "started_at": now}
    return TrainingRun.objects.create(**values | fields)


def broken_off(state: str = State.CANCELLED) -> TrainingRun:
    """A run that ended before its time; what it had learned by then is on the disk."""
    run = running(state=state)
    folder = get_settings().CHECKPOINT_ROOT / f"{STATE_PREFIX}{run.pk}"
    folder.mkdir(parents=True)
    (folder / "state.safetensors").write_bytes(b"what it has learned")
    return run


# -- Retrain --------------------------------------------------------------------------------------


def test_retrain__the_page_says_what_was_found_and_offers_recipes(owner: Client) -> None:
    make_product(photo(), style_code="s1", colour="red")
    make_product(photo(), style_code="s1", colour="blue")

    page = owner.get(url("trainingrun_add"))

    assert page.status_code == 200
    found = page.context["found"]
    assert (found.products, found.photos, found.groups) == (2, 2, 1)
    for text in ("Found in the catalogue", "pretrained-knn", "TIRG", "Retrain"):
        assert text in page.content.decode()


def test_retrain__queues_a_run_and_shows_its_page(
    owner: Client, rings: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = owner.post(url("trainingrun_add"), {"recipe": "tirg", "epochs": "3", "seed": "5"})

    run = TrainingRun.objects.get()
    assert (run.state, run.recipe, run.epochs, run.seed) == (State.QUEUED, "tirg", 3, 5)
    assert run.requested_by is not None and run.requested_by.username == "owner"
    assert rings == ["train"]
    assert answer.headers["Location"] == url("trainingrun_change", run.pk)
    assert LogEntry.objects.get().object_id == str(run.pk)
    page = owner.get(answer.headers["Location"])
    assert "A new training was requested" in page.content.decode()


def test_retrain__a_second_is_refused_with_a_readable_message(owner: Client) -> None:
    first = running()

    shown = owner.get(url("trainingrun_add")).content.decode()
    refused = owner.post(url("trainingrun_add"), {"recipe": "default", "seed": "0"})

    assert f"#{first.pk}" in shown
    assert refused.status_code == 200
    assert "already queued or running" in refused.content.decode()
    assert TrainingRun.objects.count() == 1


def test_retrain__the_database_refuses_what_the_form_did_not_see(
    owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clicks at once: both forms are valid, and then there is one run."""
    running()
    monkeypatch.setattr(RetrainForm, "clean", forms.ModelForm.clean)

    answer = owner.post(url("trainingrun_add"), {"recipe": "default", "seed": "0"}, follow=True)

    assert "wait for it, or cancel it first" in answer.content.decode()
    assert TrainingRun.objects.count() == 1


@pytest.mark.parametrize(
    "values",
    [{"recipe": "nonsense"}, {"epochs": "0"}, {"epochs": "100000"}, {"seed": "-1"}, {"seed": "x"}],
)
def test_retrain__values_that_do_not_fit_are_refused(owner: Client, values: Any) -> None:
    answer = owner.post(url("trainingrun_add"), {"recipe": "default", "seed": "0"} | values)

    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors
    assert not TrainingRun.objects.exists()


def test_retrain__a_run_whose_worker_died_does_not_stand_in_the_way(owner: Client) -> None:
    dead = running(heartbeat_at=timezone.now() - timedelta(minutes=2))

    owner.post(url("trainingrun_add"), {"recipe": "default", "seed": "0"})

    dead.refresh_from_db()
    assert dead.state == State.FAILED
    assert TrainingRun.objects.open().count() == 1


# -- a run's page ---------------------------------------------------------------------------------


def test_run_page__shows_progress_curves_and_time_left(owner: Client) -> None:
    run = running(
        stage="training",
        done=30,
        total=120,
        eta_seconds=75.0,
        history=[
            {
                "step": step,
                "epoch": 1 + step // 10,
                "epochs": 12,
                "loss": 4 / step,
                "text": 1 / step,
            }
            for step in range(1, 31)
        ],
    )

    page = owner.get(url("trainingrun_change", run.pk)).content.decode()

    assert '<progress class="visualsearch-bar" max="120" value="30" aria-label=' in page
    assert "epoch 4/12" in page
    assert "about 1 min 15 s left" in page
    assert page.count("<polyline") == 2
    assert "visualsearch/admin/run.js" in page
    assert '<noscript><meta http-equiv="refresh"' in page
    assert "Cancel this run" in page
    assert 'name="_save"' not in page


def test_run_page__stages_stand_in_the_order_in_which_they_came(owner: Client) -> None:
    run = running(timings={"embedding": 3.0, "collecting": 1.0, "training": 2.0})

    text = owner.get(url("trainingrun_change", run.pk)).content.decode()

    places = [text.index(words) for words in ("Opening the photos", ">Training<", "Embedding the")]
    assert places == sorted(places)


def test_run_page__is_safe_under_a_strict_policy(owner: Client) -> None:
    run = running(stage="training", history=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])
    fake_checkpoint(metrics=REPORT, run=run)

    for page in (
        owner.get(url("trainingrun_change", run.pk)),
        owner.get(url("trainingrun_add")),
        owner.get(url("checkpoint_changelist")),
        owner.get(url("indexentry_changelist")),
        owner.get(url("trainingrun_progress", run.pk)),
    ):
        text = page.content.decode()
        assert " style=" not in text
        assert "<style" not in text
        assert " onclick=" not in text
        for tag in text.split("<script")[1:]:
            head = tag.split(">")[0]
            assert "src=" in head or "application/json" in head


def test_run_page__what_changes_is_served_alone(owner: Client) -> None:
    run = running(stage="embedding", done=5, total=10)

    fragment = owner.get(url("trainingrun_progress", run.pk))

    text = fragment.content.decode()
    assert 'data-open="yes"' in text
    assert "<html" not in text
    assert "embedding the catalogue" in text
    assert "no-store" in fragment.headers["Cache-Control"]


def test_run_page__a_failure_shows_its_text_and_no_spinner(owner: Client) -> None:
    run = running(state=State.FAILED, error="The disk is full: <b>make room</b>")

    page = owner.get(url("trainingrun_change", run.pk)).content.decode()

    assert "The disk is full: &lt;b&gt;make room" in page
    assert "<progress" not in page
    assert "run.js" not in page


def test_run_page__figures_stand_beside_baselines_and_the_live_one(owner: Client) -> None:
    live = {**REPORT, "checkpoint": "v7"}
    run = running(state=State.SUCCEEDED, metrics={**REPORT, "live": live})

    page = owner.get(url("trainingrun_change", run.pk)).content.decode()

    for text in ("raw pixels", "image-only", "live (v7)", "0.812", "0.762 – 0.862"):
        assert text in page


def test_run_page__says_when_no_worker_comes(owner: Client) -> None:
    run = running(state=State.QUEUED, created_at=timezone.now() - timedelta(minutes=1))

    assert (
        "No worker has taken this run"
        in owner.get(url("trainingrun_change", run.pk)).content.decode()
    )


def test_run_page__a_run_that_does_not_exist(owner: Client) -> None:
    assert owner.get(url("trainingrun_progress", 99)).status_code == 404
    assert owner.get(url("trainingrun_cancel", 99)).status_code == 404


def test_cancel__asks_first_then_asks_the_trainer(owner: Client) -> None:
    run = running()

    assert "let it go on" in owner.get(url("trainingrun_cancel", run.pk)).content.decode()
    run.refresh_from_db()
    assert not run.cancel_requested
    owner.post(url("trainingrun_cancel", run.pk))

    run.refresh_from_db()
    assert run.cancel_requested
    assert LogEntry.objects.filter(change_message__contains="Cancelled").exists()


def test_resume__a_run_that_was_cancelled_is_queued_again(owner: Client, rings: list[str]) -> None:
    run = broken_off()

    assert "Resume this run" in owner.get(url("trainingrun_change", run.pk)).content.decode()
    answer = owner.post(url("trainingrun_resume", run.pk), follow=True)

    run.refresh_from_db()
    assert (run.state, run.cancel_requested, run.finished_at) == (State.QUEUED, False, None)
    assert "goes on where it stopped" in answer.content.decode()
    assert "Resume this run" not in answer.content.decode()
    assert LogEntry.objects.filter(change_message__contains="Resumed").exists()


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED])
def test_resume__not_offered_for_a_run_that_is_open_or_done(owner: Client, state: str) -> None:
    run = broken_off(state=state)

    assert "Resume" not in owner.get(url("trainingrun_change", run.pk)).content.decode()
    owner.post(url("trainingrun_resume", run.pk))

    run.refresh_from_db()
    assert run.state == state


def test_resume__nothing_is_left_of_the_run(owner: Client) -> None:
    run = running(state=State.CANCELLED)

    assert "Resume" not in owner.get(url("trainingrun_change", run.pk)).content.decode()
    answer = owner.post(url("trainingrun_resume", run.pk), follow=True)

    run.refresh_from_db()
    assert run.state == State.CANCELLED
    assert "start another run" in answer.content.decode()


def test_resume__waits_for_the_run_that_is_open(owner: Client) -> None:
    first, run = running(), broken_off()

    answer = owner.post(url("trainingrun_resume", run.pk), follow=True)

    run.refresh_from_db()
    assert run.state == State.CANCELLED
    assert f"Training run {first.pk}" in answer.content.decode()


def test_cancel__a_run_that_has_ended_is_left(owner: Client) -> None:
    run = running(state=State.SUCCEEDED)

    answer = owner.post(url("trainingrun_cancel", run.pk), follow=True)

    assert "had ended already" in answer.content.decode()


# -- checkpoints ----------------------------------------------------------------------------------


def ready(name: str, **fields: Any) -> Checkpoint:
    values = {"name": name, "folder": name, "state": "ready", "metrics": REPORT}
    return fake_checkpoint(live=False, **values | fields)


def test_checkpoints__promote_and_roll_back_by_confirmation(owner: Client) -> None:
    fake_checkpoint(name="v1", folder="v1", metrics=REPORT)
    second = ready("v2")

    listing = owner.get(url("checkpoint_changelist")).content.decode()
    assert "0.812" in listing and "Roll back" not in listing
    asked = owner.get(url("checkpoint_promote", second.pk)).content.decode()
    assert "Checkpoint v2 answers every search" in asked
    assert "Checkpoint v1 is retired" in asked
    assert Checkpoint.objects.live() != second
    owner.post(url("checkpoint_promote", second.pk))
    assert Checkpoint.objects.live() == second

    assert "Roll back to v1" in owner.get(url("checkpoint_changelist")).content.decode()
    assert (
        "Checkpoint v1 answers every search again"
        in owner.get(url("checkpoint_rollback")).content.decode()
    )
    assert Checkpoint.objects.live() == second
    owner.post(url("checkpoint_rollback"))
    live = Checkpoint.objects.live()
    assert live is not None and live.name == "v1"
    messages = list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
    assert messages == ["Promoted.", "Rolled back to it from v2."]


def test_checkpoints__promote_from_the_list_leads_to_the_confirmation(owner: Client) -> None:
    first, second = ready("v1"), ready("v2")
    action = {"action": "promote_selected", "_selected_action": [first.pk]}

    one = owner.post(url("checkpoint_changelist"), action)
    two = owner.post(
        url("checkpoint_changelist"),
        action | {"_selected_action": [first.pk, second.pk]},
        follow=True,
    )

    assert one.headers["Location"] == url("checkpoint_promote", first.pk)
    assert "One checkpoint is live at a time" in two.content.decode()
    assert Checkpoint.objects.live() is None


def test_checkpoints__a_refused_one_goes_live_only_by_an_explicit_override(owner: Client) -> None:
    make_product(photo())
    refused = ready("v1", state="refused", verdict="It has collapsed.")

    page = owner.get(url("checkpoint_promote", refused.pk)).content.decode()
    assert "The gate refused it" in page and "It has collapsed." in page
    owner.post(url("checkpoint_promote", refused.pk))
    assert not TrainingRun.objects.exists()
    answer = owner.post(url("checkpoint_promote", refused.pk), {"override": "yes"})

    run = TrainingRun.objects.get()
    assert answer.headers["Location"] == url("trainingrun_change", run.pk)
    assert run.requested_by is not None
    assert LogEntry.objects.get().change_message == "Promoted in spite of: It has collapsed."
    runs.claim()  # a worker has it now, and nobody else can ask for another
    assert Checkpoint.objects.get().metrics["override"]["reason"] == "no reason given"
    assert Checkpoint.objects.get().metrics["override"]["by"] == "owner"
    page = owner.get(url("checkpoint_change", refused.pk)).content.decode()
    assert "Promoted in spite of that by owner" in page
    again = owner.post(url("checkpoint_promote", refused.pk), {"override": "yes"}, follow=True)
    assert "wait for it, or cancel it first" in again.content.decode()


def test_checkpoints__the_live_one_is_not_promoted_again(owner: Client) -> None:
    live = fake_checkpoint()

    answer = owner.get(url("checkpoint_promote", live.pk))

    assert answer.headers["Location"] == url("checkpoint_change", live.pk)
    assert owner.get(url("checkpoint_promote", 12345)).status_code == 404


def test_checkpoint_page__the_checks_of_the_gate_with_figure_and_bound(owner: Client) -> None:
    checks = [
        {"name": "mean cosine", "passed": False, "figure": 0.8123, "bound": 0.5, "reason": "Bad."},
        {"name": "finite vectors", "passed": True, "figure": None, "bound": None, "reason": ""},
    ]
    refused = ready("v1", state="refused", verdict="Bad.", metrics=REPORT | {"checks": checks})

    page = owner.get(url("checkpoint_change", refused.pk)).content.decode()

    assert "2 checks of the gate" in page
    assert '<th scope="row">mean cosine</th>' in page
    assert "0.8123" in page and "0.5" in page


def test_checkpoint_page__verdict_and_figures_beside_the_live_one(owner: Client) -> None:
    fake_checkpoint(name="v1", folder="v1", metrics=REPORT)
    second = ready("v2", verdict="Healthy.")

    page = owner.get(url("checkpoint_change", second.pk)).content.decode()

    for text in ("Verdict of the gate: Healthy.", "live (v1)", "raw pixels", "mean_cosine"):
        assert text in page


def test_checkpoints__rollback_without_a_target_says_so(owner: Client) -> None:
    assert "no earlier checkpoint" in owner.get(url("checkpoint_rollback")).content.decode()
    answer = owner.post(url("checkpoint_rollback"), follow=True)
    assert "no earlier checkpoint" in answer.content.decode()


# -- index health ---------------------------------------------------------------------------------


@pytest.fixture
def catalogue_with_a_broken_photo(transactional_db: None) -> Iterator[tuple[Any, Any]]:
    fake_checkpoint()
    good, bad = make_product(photo(), name="Good one"), make_product(BROKEN, name="Bad one")
    indexing.index_pending()
    yield good, bad


def test_index_health__coverage_reasons_and_thumbnails(
    catalogue_with_a_broken_photo: tuple[Any, Any], owner: Client
) -> None:
    _, bad = catalogue_with_a_broken_photo

    page = owner.get(url("indexentry_changelist")).content.decode()
    failed = owner.get(url("indexentry_changelist"), {"status__exact": "failed"}).content.decode()

    assert '<a href="?status__exact=indexed">1 indexed</a>' in page
    assert '<a href="?status__exact=failed">1 failed</a>' in page
    assert "Bad one" in failed and "Good one" not in failed
    assert IndexEntry.objects.get(product=bad).error.split(":")[0] in failed
    assert f'src="{bad.images.get().original.url}"' in failed


def test_index_health__retry_opens_what_failed(
    catalogue_with_a_broken_photo: tuple[Any, Any], owner: Client, rings: list[str]
) -> None:
    _, bad = catalogue_with_a_broken_photo
    rings.clear()

    owner.post(url("indexentry_retry_failed"))

    assert IndexEntry.objects.get(product=bad).status == "pending"
    assert rings == ["embed"]
    assert owner.get(url("indexentry_retry_failed")).status_code == 405


def test_index_health__selected_products_are_indexed_again(
    catalogue_with_a_broken_photo: tuple[Any, Any], owner: Client
) -> None:
    good, bad = catalogue_with_a_broken_photo

    owner.post(
        url("indexentry_changelist"), {"action": "index_again", "_selected_action": [good.pk]}
    )

    statuses = dict(IndexEntry.objects.values_list("product_id", "status"))
    assert statuses == {good.pk: "pending", bad.pk: "failed"}


def test_index_health__a_page_of_products_takes_few_queries(
    owner: Client, django_assert_max_num_queries: Any
) -> None:
    for _ in range(3):
        make_product(photo())
    owner.get(url("indexentry_changelist"))
    with django_assert_max_num_queries(20) as few:
        owner.get(url("indexentry_changelist"))
    for _ in range(20):
        make_product(photo())
    with django_assert_max_num_queries(len(few)):
        owner.get(url("indexentry_changelist"))


def test_index_health__an_empty_shop(owner: Client) -> None:
    page = owner.get(url("indexentry_changelist"))

    assert page.status_code == 200
    assert "No checkpoint is live yet" in page.content.decode()


# -- who may do what ------------------------------------------------------------------------------

MUTATIONS = {
    "retrain": ("trainingrun_add", "add_trainingrun"),
    "cancel": ("trainingrun_cancel", "change_trainingrun"),
    "resume": ("trainingrun_resume", "change_trainingrun"),
    "promote": ("checkpoint_promote", "change_checkpoint"),
    "roll back": ("checkpoint_rollback", "change_checkpoint"),
    "retry": ("indexentry_retry_failed", "change_indexentry"),
}


def _situation(what: str) -> tuple[list[Any], dict[str, Any]]:
    """What there is before, and the arguments of the URL and of the POST."""
    fake_checkpoint(name="v1", folder="v1", promoted_at=timezone.now() - timedelta(days=1))
    fake_checkpoint(name="v2", folder="v2")
    third = ready("v3")
    product = make_product(photo())
    IndexEntry.objects.filter(product=product).update(status="failed", error="some reason")
    arguments: list[Any] = []
    if what == "cancel":
        arguments = [running().pk]
    elif what == "resume":
        arguments = [broken_off().pk]
    elif what == "promote":
        arguments = [third.pk]
    return arguments, {"recipe": "default", "seed": "0"}


def _snapshot() -> list[Any]:
    return [
        list(TrainingRun.objects.values_list("pk", "state", "cancel_requested")),
        sorted(Checkpoint.objects.values_list("name", "state")),
        list(IndexEntry.objects.values_list("pk", "status")),
    ]


@pytest.mark.parametrize("what", MUTATIONS)
@pytest.mark.parametrize("who", ["anonymous", "customer", "staff", "viewer"])
def test_permissions__who_has_none_changes_nothing(what: str, who: str) -> None:
    name, _ = MUTATIONS[what]
    arguments, values = _situation(what)
    if who == "anonymous":
        client = Client()
    elif who == "customer":
        client = Client()
        client.force_login(User.objects.create_user("customer"))
    elif who == "staff":
        client = staff()
    else:
        client = staff("view_trainingrun", "view_checkpoint", "view_indexentry")
    before = _snapshot()

    answer = client.post(url(name, *arguments), values)

    assert answer.status_code in (302, 403)
    assert answer.status_code == 403 or "login" in answer.headers["Location"]
    assert _snapshot() == before


@pytest.mark.parametrize("what", MUTATIONS)
def test_permissions__the_right_one_is_enough(what: str) -> None:
    name, permission = MUTATIONS[what]
    arguments, values = _situation(what)
    before = _snapshot()

    answer = staff(permission, permission.replace("change", "view")).post(
        url(name, *arguments), values
    )

    assert answer.status_code == 302
    assert _snapshot() != before


@pytest.mark.parametrize("what", MUTATIONS)
def test_permissions__a_post_from_elsewhere_changes_nothing(what: str) -> None:
    name, _ = MUTATIONS[what]
    arguments, values = _situation(what)
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("owner", "", "x"))
    before = _snapshot()

    assert client.post(url(name, *arguments), values).status_code == 403

    assert _snapshot() == before


@pytest.mark.parametrize("what", ["cancel", "resume", "promote", "roll back", "retry"])
def test_permissions__a_get_changes_nothing(what: str, owner: Client) -> None:
    name, _ = MUTATIONS[what]
    arguments, _ = _situation(what)
    before = _snapshot()

    owner.get(url(name, *arguments))

    assert _snapshot() == before


def test_permissions__nothing_is_added_edited_or_deleted_by_hand(owner: Client) -> None:
    checkpoint, run = fake_checkpoint(), running()
    product = make_product(photo())
    before = _snapshot()

    for name, pk in (
        ("checkpoint", checkpoint.pk),
        ("trainingrun", run.pk),
        ("indexentry", product.pk),
    ):
        assert owner.post(url(f"{name}_change", pk), {"state": "live"}).status_code == 403
        assert owner.post(url(f"{name}_delete", pk), {"post": "yes"}).status_code == 403
    for name in ("checkpoint", "indexentry"):
        assert owner.post(url(f"{name}_add"), {}).status_code == 403

    assert _snapshot() == before


def test_permissions__viewers_see_pages_without_buttons() -> None:
    viewer = staff("view_trainingrun", "view_checkpoint", "view_indexentry")
    run, checkpoint = running(), ready("v1")

    assert "Cancel" not in viewer.get(url("trainingrun_change", run.pk)).content.decode()
    assert "Promote…" not in viewer.get(url("checkpoint_change", checkpoint.pk)).content.decode()
    assert viewer.get(url("indexentry_changelist")).status_code == 200


# -- figures and curves ---------------------------------------------------------------------------


def test_tables__own_and_best_cells_are_marked() -> None:
    similar, text, _ = tables(REPORT, live=REPORT)

    assert similar.systems == ("encoder", "raw pixels", "live")
    own, pixels, _ = similar.rows[0].cells
    assert (own.text, own.is_own, own.is_best) == ("0.812", True, True)
    assert not pixels.is_best
    assert text.rows[1].cells[0].text == "3.0"
    assert tables({}) == []


def test_key_figures__what_a_list_shows() -> None:
    assert key_figures(REPORT) == {"similar": 0.8123, "text": 0.5, "composed": 0.45}
    assert key_figures({}) == {}


def test_charts__points_lie_inside_the_picture_whatever_the_history() -> None:
    history = [
        {"step": 1, "loss": 3.0, "R@10": 0.1},
        {"step": 2, "loss": None},
        {"step": 5, "loss": 1.0, "R@10": 0.4, "epoch": 2},
    ]

    loss, recall = charts(history)

    assert [curve.name for curve in loss.curves] == ["loss"]
    assert recall.title == "Recall"
    pairs = itertools.chain.from_iterable(
        curve.points.split() for chart in (loss, recall) for curve in chart.curves
    )
    for pair in pairs:
        x, y = map(float, pair.split(","))
        assert loss.left <= x <= loss.right
        assert loss.top <= y <= loss.bottom
    assert charts([]) == charts([{"step": 1, "loss": 1.0}]) == []
    assert charts([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0}])[0].high == 2.0
