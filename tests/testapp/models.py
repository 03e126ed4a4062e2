"""Garments: UUID keys, photos and traits in child tables, the title in another table, archived rows."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models


class Brand(models.Model):
    label = models.CharField(max_length=80)

    def __str__(self) -> str:
        return self.label


class Design(models.Model):
    """What garments of several colours share."""

    code = models.SlugField(primary_key=True)
    brand = models.ForeignKey(Brand, models.PROTECT)
    headline = models.CharField(max_length=120)
    story = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.headline


class Collection(models.Model):
    """What garments are put into and taken out of by the season."""

    title = models.CharField(max_length=80)

    def __str__(self) -> str:
        return self.title


class CurrentGarments(models.Manager["Garment"]):
    """Hides what is archived, as many shops' default managers do."""

    def get_queryset(self) -> models.QuerySet[Garment]:
        return super().get_queryset().filter(archived=False)


class Garment(models.Model):
    # Not called "id", and a column of another name still.
    key = models.UUIDField(primary_key=True, default=uuid.uuid4, db_column="garment key")
    design = models.ForeignKey(Design, models.CASCADE, related_name="garments")
    department = models.CharField(max_length=40)
    members_only = models.BooleanField(default=False)
    archived = models.BooleanField(default=False)
    cents = models.PositiveIntegerField(default=0)
    collections = models.ManyToManyField(Collection, blank=True)

    objects: Any = CurrentGarments()
    everything: Any = models.Manager()

    class Meta:
        db_table = "wardrobe"

    def __str__(self) -> str:
        return str(self.key)

    def get_absolute_url(self) -> str:
        return f"/garments/{self.key}/"


class Shot(models.Model):
    """A photo; the table has no position column."""

    garment = models.ForeignKey(Garment, models.CASCADE, db_column="of_garment")
    file = models.ImageField(upload_to="shots")

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.file.name or ""


class Trait(models.Model):
    """One attribute of a garment as a row."""

    wearable = models.ForeignKey(Garment, models.CASCADE, related_name="traits")
    name = models.CharField(max_length=40)
    value = models.CharField(max_length=40)

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"
