"""``python -m hotset.demo``: a thousand taxi tariffs behind one endpoint, and what it looks like when they are asked.

It trains the models, starts the real server in a process of its own, asks it, and shows what happened. It uses the
server as any client does, over HTTP; of hotset itself it imports nothing but names and units.
"""
