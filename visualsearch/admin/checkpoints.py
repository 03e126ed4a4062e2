"""Checkpoints in the admin: their figures beside the live one's, promote and roll back."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from visualsearch.admin.figures import key_figures, tables
from visualsearch.admin.inspection import InspectionPages
from visualsearch.conf import get_settings
from visualsearch.exceptions import VisualSearchError
from visualsearch.health import status
from visualsearch.indexes import get_index
from visualsearch.lifecycle import promotion, training
from visualsearch.models import Checkpoint, Embedding

State = Checkpoint.State


@admin.register(Checkpoint)
class CheckpointAdmin(InspectionPages):
    list_display = (
        "name",
        "state",
        "recipe",
        "similar",
        "text",
        "composed",
        "created_at",
        "promoted_at",
    )
    list_select_related = ("run",)
    actions = ("promote_selected",)
    change_list_template = "admin/visualsearch/checkpoint/list.html"
    change_form_template = "admin/visualsearch/checkpoint/checkpoint.html"

    class Media:
        css = {"all": ("visualsearch/admin/admin.css",)}

    # -- who may what: checkpoints are promoted, never made or edited by hand -------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Checkpoint | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Checkpoint | None = None) -> bool:
        return False

    def has_promote_permission(self, request: HttpRequest) -> bool:
        """The permission to change checkpoints is the one to promote them."""
        return bool(request.user.has_perm("visualsearch.change_checkpoint"))

    # -- the list --------------------------------------------------------------------------------

    @admin.display(description=_("same kind P@10"))
    def similar(self, checkpoint: Checkpoint) -> str:
        return _figure(checkpoint, "similar")

    @admin.display(description=_("title MRR"))
    def text(self, checkpoint: Checkpoint) -> str:
        return _figure(checkpoint, "text")

    @admin.display(description=_("like this but… R@10"))
    def composed(self, checkpoint: Checkpoint) -> str:
        return _figure(checkpoint, "composed")

    @admin.action(description=_("Promote the selected checkpoint"), permissions=["promote"])
    def promote_selected(
        self, request: HttpRequest, queryset: QuerySet[Checkpoint]
    ) -> HttpResponse | None:
        chosen = list(queryset[:2])
        if len(chosen) != 1:
            messages.error(request, _("One checkpoint is live at a time: select one."))
            return None
        return HttpResponseRedirect(_url("promote", chosen[0].pk))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {
            "title": capfirst(self.opts.verbose_name_plural),
            "open_run": status.open_run(),
            "may_retrain": request.user.has_perm("visualsearch.add_trainingrun"),
            "rollback_target": Checkpoint.objects.rollback_target(),
            "may_promote": self.has_promote_permission(request),
        }
        return super().changelist_view(request, context | (extra_context or {}))

    # -- a checkpoint's page ---------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        mine = [
            path(
                "<int:pk>/promote/",
                wrap(self.promote_view),
                name="visualsearch_checkpoint_promote",
            ),
            path("rollback/", wrap(self.rollback_view), name="visualsearch_checkpoint_rollback"),
        ]
        return mine + super().get_urls()

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        checkpoint = self.get_object(request, object_id)
        context: dict[str, Any] = {}
        if checkpoint is not None:
            live = Checkpoint.objects.live()
            # What the live one made of the same products then, if it was asked; else its own figures.
            compared = (checkpoint.run.metrics.get("live") if checkpoint.run else None) or None
            if compared is None and live is not None and live != checkpoint:
                compared = {**live.metrics, "checkpoint": live.name}
            context = {
                "title": f"{_('Checkpoint')} {checkpoint}",
                "subtitle": "",  # it would say the same
                "checkpoint": checkpoint,
                "tables": tables(checkpoint.metrics, live=compared),
                "live_name": (compared or {}).get("checkpoint"),
                "health": checkpoint.metrics.get("health", {}),
                "checks": checkpoint.metrics.get("checks", []),
                "override": checkpoint.metrics.get("override"),
                "has_embeddings": Embedding.objects.filter(checkpoint=checkpoint).exists(),
                "may_promote": self.has_promote_permission(request)
                and checkpoint.state not in (State.LIVE, State.BUILDING),
            }
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def promote_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Says what will happen; does it on POST only."""
        self._check_permission(request)
        checkpoint = Checkpoint.objects.filter(pk=pk).first()
        if checkpoint is None:
            raise Http404(f"There is no checkpoint {pk}.")
        if checkpoint.state in (State.LIVE, State.BUILDING):
            messages.info(
                request, f"{_('Checkpoint')} {checkpoint}: {checkpoint.get_state_display()}."
            )
            return HttpResponseRedirect(_url("change", pk))
        obstacle = promotion.obstacle(checkpoint)
        needs_override = checkpoint.state == State.REFUSED or bool(obstacle)
        if request.method == "POST":
            if needs_override and request.POST.get("override") != "yes":
                messages.error(
                    request, _("It was not promoted: tick that you want it all the same.")
                )
                return HttpResponseRedirect(_url("promote", pk))
            return self._promote(request, checkpoint, override=needs_override)
        context = {
            "checkpoint": checkpoint,
            "live": Checkpoint.objects.live(),
            "needs_override": needs_override,
            "obstacle": obstacle,
            "products": get_index().get_queryset().count(),
            "keep": get_settings().KEEP_CHECKPOINTS,
            "title": _("Promote this checkpoint?"),
        }
        return self._page(request, "admin/visualsearch/checkpoint/promote.html", context)

    def rollback_view(self, request: HttpRequest) -> HttpResponse:
        """Says what will happen; does it on POST only."""
        self._check_permission(request)
        if request.method == "POST":
            before = Checkpoint.objects.live()
            try:
                target = promotion.rollback()
            except VisualSearchError as error:
                messages.error(request, error.message)
            else:
                self.log_change(request, target, f"Rolled back to it from {before}.")
                messages.success(
                    request, _("Checkpoint %(name)s is live again.") % {"name": target}
                )
            return HttpResponseRedirect(_url("changelist"))
        earlier = Checkpoint.objects.rollback_target()
        context = {
            "target": earlier,
            "obstacle": promotion.obstacle(earlier) if earlier else "",
            "live": Checkpoint.objects.live(),
            "title": _("Roll back?"),
        }
        return self._page(request, "admin/visualsearch/checkpoint/rollback.html", context)

    def _promote(
        self, request: HttpRequest, checkpoint: Checkpoint, *, override: bool
    ) -> HttpResponse:
        verdict = checkpoint.verdict
        reason = request.POST.get("reason", "").strip()
        try:
            if not override:
                promotion.promote(checkpoint)
                self.log_change(request, checkpoint, "Promoted.")
                messages.success(request, _("Checkpoint %(name)s is live.") % {"name": checkpoint})
                return HttpResponseRedirect(_url("changelist"))
            run = training.request_promotion(checkpoint, requested_by=request.user)
            if checkpoint.state == State.REFUSED:
                promotion.record_override(checkpoint, by=str(request.user), reason=reason)
        except VisualSearchError as error:
            messages.error(request, error.message)
            return HttpResponseRedirect(_url("change", checkpoint.pk))
        why = f" Reason given: {reason}" if reason else ""
        self.log_change(
            request, checkpoint, f"Promoted in spite of: {verdict or 'no embeddings'}{why}"
        )
        messages.success(request, _("A worker embeds the catalogue with it; then it goes live."))
        return HttpResponseRedirect(reverse("admin:visualsearch_trainingrun_change", args=[run.pk]))

    def _check_permission(self, request: HttpRequest) -> None:
        if not self.has_promote_permission(request):
            raise PermissionDenied

    def _page(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        everywhere = self.admin_site.each_context(request)
        return TemplateResponse(request, template, {**everywhere, "opts": self.opts, **context})


def _figure(checkpoint: Checkpoint, name: str) -> str:
    value = key_figures(checkpoint.metrics).get(name)
    return "–" if value is None else f"{value:.3f}"


def _url(view: str, *args: Any) -> str:
    return reverse(f"admin:visualsearch_checkpoint_{view}", args=args)
