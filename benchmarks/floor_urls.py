"""The shop's URLs, an empty DRF view, and a DRF view that fetches products by key."""

from __future__ import annotations

from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from shop.models import Product
from shop.urls import urlpatterns as shop_urlpatterns


class EmptyView(APIView):
    """What HTTP, Django and DRF cost by themselves."""

    def get(self, request: Request) -> Response:
        return Response({})


class ProductSerializer(serializers.ModelSerializer[Product]):
    url = serializers.CharField(source="get_absolute_url")
    image = serializers.SerializerMethodField()

    class Meta:
        model = Product
        fields = ["id", "name", "category", "price", "url", "image"]

    def get_image(self, product: Product) -> str:
        return product.images.all()[0].original.url


class ProductsView(APIView):
    """The same ten products, their keys known: what any answer with ten products costs."""

    def get(self, request: Request) -> Response:
        keys = [int(key) for key in request.query_params["ids"].split(",")]
        found = Product.objects.prefetch_related("images").in_bulk(keys)
        return Response(ProductSerializer([found[key] for key in keys], many=True).data)


urlpatterns = [
    path("floor/empty/", EmptyView.as_view()),
    path("floor/products/", ProductsView.as_view()),
    *shop_urlpatterns,
]
