"""`ropewalk demo`: a server of its own, jobs on the pocket model, and what they leave behind."""
