"""Every legal move of an app, a deploy, a release and a replica: one function per move, one event each."""
