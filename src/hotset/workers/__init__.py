"""Workers: the hands. They hold loaded models and run the framework's or the user's code, in a thread or a child process."""
