"""The words that were searched for, for "searches without good answers"."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("visualsearch", "0005_search_documents"),
    ]

    operations = [
        migrations.CreateModel(
            name="WordSearch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("words", models.CharField(max_length=256, verbose_name="words")),
                ("query_id", models.CharField(max_length=64, verbose_name="query")),
                ("hits", models.PositiveIntegerField(verbose_name="results")),
                ("match", models.FloatField(null=True, verbose_name="best match")),
                (
                    "searched_on",
                    models.DateField(
                        db_index=True, default=django.utils.timezone.localdate, verbose_name="day"
                    ),
                ),
            ],
            options={
                "verbose_name": "search without a good answer",
                "verbose_name_plural": "searches without good answers",
            },
        ),
    ]
