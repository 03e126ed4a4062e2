"""How the installation is: examined, counted, watched."""
