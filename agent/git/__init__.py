"""Git repositories, behind ``agent.ports.source``; git itself does the work.

``environment`` says with which options and environment every git process runs, ``process`` runs one, ``repos`` and
``tree`` implement the ports, ``remotes`` fetches from elsewhere by what ``access`` gives it, ``aside`` is where things
are looked at before they are taken in, ``refs`` tells which ref names we accept.
"""
