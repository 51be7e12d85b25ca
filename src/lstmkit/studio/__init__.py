"""Train, inspect and compare models in the browser: pages from this machine, for this machine.

``command`` starts the server, ``app`` has the routes, ``pages`` one module per page. ``workspace`` is the folder with
the data and runs, ``training`` the processes that fit. ``forms``, ``columns``, ``drawing`` and ``charts`` make what the
pages show; ``security`` says what a request may do.
"""
