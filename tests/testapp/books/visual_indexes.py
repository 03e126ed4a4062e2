"""How books map to visual search: the shortest declaration there is."""

import visualsearch
from tests.testapp.books.models import Book


@visualsearch.register(Book)
class BookIndex(visualsearch.VisualIndex):
    image_field = "cover"
    text_fields = ["title"]
