"""The endpoints of staff: checkpoints, promotion and rollback, training runs."""

from __future__ import annotations

from typing import Any, cast

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from visualsearch.api import parsing, serializers
from visualsearch.api.base import StaffAPIView, answers
from visualsearch.exceptions import QueryError
from visualsearch.lifecycle import promotion, training
from visualsearch.models import Checkpoint, TrainingRun
from visualsearch.queries import uploads

MOST_LISTED = 100
MOST_SEED = 2**31 - 1
MOST_EPOCHS = 1000
_PK = OpenApiParameter("pk", str, OpenApiParameter.PATH)


class CheckpointsView(StaffAPIView):
    """Every checkpoint and where it stands."""

    needs = {"GET": "visualsearch.view_checkpoint"}

    @extend_schema(
        operation_id="checkpoints",
        responses=answers(401, 403, 405, 429, s200=serializers.CheckpointsSerializer),
    )
    def get(self, request: Request) -> Response:
        """The newest first."""
        found = Checkpoint.objects.order_by("-created_at", "-pk")[:MOST_LISTED]
        return Response({"checkpoints": [serializers.as_checkpoint(each) for each in found]})


class PromoteView(StaffAPIView):
    """Takes a checkpoint live."""

    needs = {"POST": "visualsearch.change_checkpoint"}

    @extend_schema(
        operation_id="promote_checkpoint",
        parameters=[_PK],
        request=None,
        responses=answers(
            400, 401, 403, 404, 405, 409, 413, 415, 429, s200=serializers.CheckpointSerializer
        ),
    )
    def post(self, request: Request, pk: str) -> Response:
        """One that the gate refused is not promoted here: that takes a reason, in the admin."""
        checkpoint = _find(Checkpoint, pk)
        promotion.promote(checkpoint)
        checkpoint.refresh_from_db()
        return Response(serializers.as_checkpoint(checkpoint))


class RollbackView(StaffAPIView):
    """Brings the checkpoint back that was live before."""

    needs = {"POST": "visualsearch.change_checkpoint"}

    @extend_schema(
        operation_id="roll_back",
        request=None,
        responses=answers(
            400, 401, 403, 405, 409, 413, 415, 429, s200=serializers.CheckpointSerializer
        ),
    )
    def post(self, request: Request) -> Response:
        """409 if there is none that can be gone back to."""
        return Response(serializers.as_checkpoint(promotion.rollback()))


class TrainingRunsView(StaffAPIView):
    """Requests to train."""

    needs = {"POST": "visualsearch.add_trainingrun"}

    @extend_schema(
        operation_id="request_training",
        request=serializers.TrainingRequestSerializer,
        responses=answers(
            400, 401, 403, 405, 409, 413, 415, 429, s202=serializers.TrainingRunSerializer
        ),
    )
    def post(self, request: Request) -> Response:
        """Queues a run; a worker performs it. 409 while another is open."""
        uploads.refuse_oversized(request)
        data = cast(dict[str, Any], request.data)
        parsing.check_names(data, ("recipe", "epochs", "seed"), where="the body")
        recipe = data.get("recipe")
        if recipe is not None and not isinstance(recipe, str):
            raise QueryError("recipe is not a text: give the name of one.", field="recipe")
        run = training.request_training(
            _known_recipe(recipe),
            epochs=_whole(data.get("epochs"), field="epochs", least=1, most=MOST_EPOCHS),
            seed=_whole(data.get("seed"), field="seed", least=0, most=MOST_SEED) or 0,
            requested_by=request.user,
        )
        return Response(serializers.as_run(run), status=202)


class TrainingRunView(StaffAPIView):
    """One training run."""

    needs = {"GET": "visualsearch.view_trainingrun"}

    @extend_schema(
        operation_id="training_run",
        parameters=[_PK],
        responses=answers(401, 403, 404, 405, 429, s200=serializers.TrainingRunSerializer),
    )
    def get(self, request: Request, pk: str) -> Response:
        """How far it is, and what came out."""
        return Response(serializers.as_run(_find(TrainingRun, pk)))


def _find(model: Any, pk: str) -> Any:
    """The row, or 404 for whatever is no key of one."""
    is_number = pk.isascii() and pk.isdigit() and len(pk) < 19
    found = model.objects.filter(pk=int(pk)).first() if is_number else None
    if found is None:
        raise Http404
    return found


def _known_recipe(name: str | None) -> str | None:
    from visualsearch.ml.recipes import RECIPES

    if name is not None and name not in RECIPES:
        raise QueryError(
            f"There is no recipe {name[:40]!r}. There are: {', '.join(RECIPES)}.", field="recipe"
        )
    return name


def _whole(value: Any, *, field: str, least: int, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise QueryError(
            f"{field} is {str(value)[:40]!r}: give a whole number from {least} to {most}.",
            field=field,
        )
    return value
