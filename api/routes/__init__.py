"""The routes: HTTP in, one call to the service's door, a response model out."""
