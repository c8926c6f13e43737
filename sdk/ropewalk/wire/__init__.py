"""What goes over HTTP: jobs, candidates, results, plans and problems, as a server sends and a client reads them."""
