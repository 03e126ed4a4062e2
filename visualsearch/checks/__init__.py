"""Django's system checks: of the settings, of the shop's declaration, of the database."""
