"""The parts of a replica, each made of its settings.

``replica.py`` calls them in order and joins what they return; nothing else does. They open no socket, start no task and
make no decision while the server runs.
"""
