"""Training runs in the admin: Add is Retrain, a run's page shows its progress while it lasts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from visualsearch.admin.curves import charts
from visualsearch.admin.estimate import estimates
from visualsearch.admin.figures import tables
from visualsearch.admin.themes import ThemedAdmin
from visualsearch.conf import get_settings
from visualsearch.exceptions import TrainingInProgressError, VisualSearchError
from visualsearch.health import status
from visualsearch.lifecycle import examples, runs, training
from visualsearch.lifecycle.run_progress import in_order
from visualsearch.ml.recipes import RECIPES
from visualsearch.models import Checkpoint, TrainingRun
from visualsearch.querysets import HEARTBEAT_SECONDS

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[TrainingRun]
    _ModelForm = forms.ModelForm[TrainingRun]
else:  # they take no type when the program runs
    _ModelAdmin = ThemedAdmin
    _ModelForm = forms.ModelForm

STAGES = {
    "collecting": _("opening the photos"),
    "preparing": _("preparing"),
    "reading": _("reading photos"),
    "training": _("training"),
    "evaluating": _("evaluating on products it has not seen"),
    "exporting": _("exporting for the web processes"),
    "judging": _("comparing with the live checkpoint"),
    "embedding": _("embedding the catalogue"),
    "indexing": _("building the search index"),
    "probing": _("measuring the search index"),
    "neighbours": _("finding each product's neighbours"),
    "promoting": _("going live"),
}
POLL_SECONDS = 2
RELOAD_SECONDS = 5


class RetrainForm(_ModelForm):
    recipe = forms.ChoiceField(label=_("Recipe"))

    class Meta:
        model = TrainingRun
        fields = ("recipe", "epochs", "seed")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "recipe" in self.fields:
            field = self.fields["recipe"]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [
                (recipe.name, f"{recipe.name} – {recipe.summary}") for recipe in RECIPES.values()
            ]
        if "seed" in self.fields:
            self.fields["seed"].help_text = _("The same seed on the same catalogue gives the same.")

    def clean(self) -> dict[str, Any] | None:
        # Django leaves the constraint to the database, as it is about fields the form has not.
        if self.instance._state.adding and TrainingRun.objects.open().exists():
            constraint = TrainingRun._meta.constraints[0]
            raise forms.ValidationError(constraint.get_violation_error_message(), code="open")
        return super().clean()


@admin.register(TrainingRun)
class TrainingRunAdmin(_ModelAdmin):
    form = RetrainForm
    fields = ("recipe", "epochs", "seed")
    list_display = ("name", "recipe", "shown_state", "took", "made", "requested_by", "created_at")
    list_filter = ("state", "recipe")
    list_select_related = ("requested_by",)
    date_hierarchy = "created_at"
    change_list_template = "admin/visualsearch/trainingrun/list.html"
    add_form_template = "admin/visualsearch/trainingrun/retrain.html"
    change_form_template = "admin/visualsearch/trainingrun/progress.html"

    class Media:
        css = {"all": ("visualsearch/admin/admin.css",)}

    # -- who may what: runs are started and cancelled, never edited -----------------------------

    def has_change_permission(self, request: HttpRequest, obj: TrainingRun | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: TrainingRun | None = None) -> bool:
        return False

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """The permission to change runs is the one to cancel them, and to go on with them."""
        return bool(request.user.has_perm("visualsearch.change_trainingrun"))

    # -- the list --------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[TrainingRun]:
        return super().get_queryset(request).select_related("checkpoint")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {
            "title": capfirst(self.opts.verbose_name_plural),
            "may_retrain": self.has_add_permission(request),
        }
        return super().changelist_view(request, context | (extra_context or {}))

    @admin.display(description=_("run"), ordering="pk")
    def name(self, run: TrainingRun) -> str:
        return f"#{run.pk}"

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, run: TrainingRun) -> str:
        text = str(run.get_state_display())
        return f"{text}: {STAGES.get(run.stage, run.stage)}" if run.is_open and run.stage else text

    @admin.display(description=_("took"))
    def took(self, run: TrainingRun) -> str:
        if run.started_at is None:
            return "–"
        return _span((run.finished_at or timezone.now()) - run.started_at)

    @admin.display(description=_("checkpoint"))
    def made(self, run: TrainingRun) -> str:
        checkpoint = getattr(run, "checkpoint", None)
        if checkpoint is None:
            return "–"
        url = reverse("admin:visualsearch_checkpoint_change", args=[checkpoint.pk])
        return format_html('<a href="{}">{}</a>', url, checkpoint)

    # -- Retrain ---------------------------------------------------------------------------------

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        settings = get_settings()
        given = {"recipe": settings.RECIPE, "epochs": settings.TRAINING_EPOCHS, "seed": 0}
        return given | super().get_changeform_initial_data(request)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        # A run whose worker died must not keep anybody from starting another.
        runs.fail_abandoned()
        context: dict[str, Any] = {
            "title": _("Retrain"),
            "open_run": status.open_run(),
            "last": _last_run(),
        }
        if request.method == "GET":
            try:
                found = examples.look()
                context["found"] = found
                context["estimates"] = [
                    {
                        "recipe": each.recipe,
                        "whole": _span(timedelta(seconds=each.seconds)),
                        "epoch": each.per_epoch and _span(timedelta(seconds=each.per_epoch)),
                        "run": each.run,
                    }
                    for each in estimates(photos=found.photos)
                ]
            except ImproperlyConfigured as error:
                context["problem"] = str(error)
        try:
            return super().add_view(request, form_url, context | (extra_context or {}))
        except TrainingInProgressError as error:  # somebody else was faster by a moment
            messages.error(request, error.message)
            return HttpResponseRedirect(reverse("admin:visualsearch_trainingrun_changelist"))

    def save_model(self, request: HttpRequest, obj: TrainingRun, form: Any, change: bool) -> None:
        obj.requested_by = request.user  # type: ignore[assignment]
        runs.enqueue(obj)

    def response_add(
        self, request: HttpRequest, obj: TrainingRun, post_url_continue: str | None = None
    ) -> HttpResponse:
        messages.success(request, _("A new training was requested: this page follows it."))
        return HttpResponseRedirect(_page(obj))

    # -- a run's page ----------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        mine = [
            path(
                "<int:pk>/progress/",
                wrap(self.progress_view),
                name="visualsearch_trainingrun_progress",
            ),
            path(
                "<int:pk>/cancel/", wrap(self.cancel_view), name="visualsearch_trainingrun_cancel"
            ),
            path(
                "<int:pk>/resume/", wrap(self.resume_view), name="visualsearch_trainingrun_resume"
            ),
        ]
        return mine + super().get_urls()

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        context: dict[str, Any] = {}
        run = self.get_object(request, object_id)
        if run is not None:
            context = self._progress(request, run) | {
                "title": f"{_('Training run')} #{run.pk}",
                "subtitle": "",  # it would name a state that the script does not renew
            }
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the run's page that changes, for the script that polls it."""
        run = self._find(request, pk)
        template = "admin/visualsearch/trainingrun/progress_fragment.html"
        response = render(request, template, self._progress(request, run))
        response["Cache-Control"] = "no-store"
        return response

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asks before it cancels; cancels on POST only."""
        run = self._find(request, pk)
        if not self.has_cancel_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            if runs.cancel(run):
                self.log_change(request, run, "Cancelled.")
                messages.success(request, _("The run is being cancelled."))
            else:
                messages.info(request, _("The run had ended already."))
            return HttpResponseRedirect(_page(run))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Cancel this training run?"),
            "run": run,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/visualsearch/trainingrun/cancel.html", context)

    @method_decorator(require_POST)
    def resume_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Queues a run that was broken off once more, to go on where it stopped."""
        run = self._find(request, pk)
        if not self.has_cancel_permission(request):
            raise PermissionDenied
        try:
            training.request_resumption(pk)
        except VisualSearchError as error:
            messages.error(request, error.message)
        else:
            self.log_change(request, run, "Resumed.")
            messages.success(request, _("The run goes on where it stopped."))
        return HttpResponseRedirect(_page(run))

    def _find(self, request: HttpRequest, pk: int) -> TrainingRun:
        run = self.get_object(request, str(pk))
        if run is None:
            raise Http404(f"There is no training run {pk}.")
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        return run

    def _progress(self, request: HttpRequest, run: TrainingRun) -> dict[str, Any]:
        checkpoint = Checkpoint.objects.filter(run=run).first()
        silent = timezone.now() - (run.heartbeat_at or timezone.now())
        waited = timezone.now() - run.created_at
        return {
            "run": run,
            "stage": STAGES.get(run.stage, run.stage),
            "eta": None if run.eta_seconds is None else _span(timedelta(seconds=run.eta_seconds)),
            "last_point": run.history[-1] if run.history else None,
            "charts": charts(run.history),
            "timings": [
                (STAGES.get(stage, stage), _span(timedelta(seconds=seconds)))
                for stage, seconds in in_order(run.timings).items()
            ],
            "tables": tables(run.metrics, live=run.metrics.get("live")),
            "live_name": (run.metrics.get("live") or {}).get("checkpoint"),
            "checkpoint": checkpoint,
            "may_cancel": run.is_open and self.has_cancel_permission(request),
            "may_resume": self.has_cancel_permission(request) and training.can_be_resumed(run),
            "is_silent": run.state == TrainingRun.State.RUNNING
            and silent > timedelta(seconds=HEARTBEAT_SECONDS),
            "nobody_comes": run.state == TrainingRun.State.QUEUED
            and waited > timedelta(seconds=30),
            "poll_seconds": POLL_SECONDS,
            "reload_seconds": RELOAD_SECONDS,
        }


def _page(run: TrainingRun) -> str:
    return reverse("admin:visualsearch_trainingrun_change", args=[run.pk])


def _last_run() -> TrainingRun | None:
    return TrainingRun.objects.filter(state=TrainingRun.State.SUCCEEDED).first()


def _span(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"
