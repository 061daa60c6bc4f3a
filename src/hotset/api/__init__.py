"""The doors: HTTP in, one data plane behind all of them. Nothing in here decides where a model lives."""
