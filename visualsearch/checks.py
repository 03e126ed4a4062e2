"""System checks visualsearch.E0xx and W0xx."""


def register() -> None:
    pass
