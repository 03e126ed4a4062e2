"""What staff says of pairs of products."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from visualsearch import conf
from visualsearch.migrations._operations import CascadeInDatabase

PRODUCT_MODEL = conf.product_model_name()


class Migration(migrations.Migration):
    dependencies = [
        ("visualsearch", "0006_word_searches"),
        migrations.swappable_dependency(PRODUCT_MODEL),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Judgement",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "verdict",
                    models.CharField(
                        choices=[
                            ("similar", "similar"),
                            ("not similar", "not similar"),
                            ("pin", "pinned"),
                            ("ban", "banned"),
                        ],
                        max_length=16,
                        verbose_name="verdict",
                    ),
                ),
                ("judged_at", models.DateTimeField(auto_now=True, verbose_name="judged at")),
                (
                    "judged_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="judged by",
                    ),
                ),
                (
                    "other",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=PRODUCT_MODEL,
                        verbose_name="other product",
                    ),
                ),
                (
                    "product",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=PRODUCT_MODEL,
                        verbose_name="product",
                    ),
                ),
            ],
            options={
                "verbose_name": "judgement",
                "verbose_name_plural": "judgements",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("product", "other"), name="visualsearch_one_judgement_a_pair"
                    )
                ],
            },
        ),
        CascadeInDatabase("Judgement", "product"),
        CascadeInDatabase("Judgement", "other"),
    ]
