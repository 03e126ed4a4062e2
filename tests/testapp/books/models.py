"""Books by ISBN: a text key, and one cover that is a field of the product."""

from __future__ import annotations

from django.db import models


class Book(models.Model):
    isbn = models.CharField("ISBN", max_length=40, primary_key=True)
    title = models.CharField(max_length=200)
    cover = models.ImageField(upload_to="covers", blank=True)

    def __str__(self) -> str:
        return self.title
