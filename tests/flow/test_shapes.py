"""Repositories of the shapes that companies have: a site with a database, and several apps in one repository."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.flow.test_languages import cached, change, files_of, harbour, pushed
from tests.support.postgres import postgres
from tests.support.rig import Checkout, Rig

__all__ = ["harbour"]

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

SETTINGS = """
import os
from pathlib import Path

import dj_database_url

BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = os.environ["SECRET_KEY"]
ALLOWED_HOSTS = [".localhost"]
DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}
INSTALLED_APPS = ["django.contrib.staticfiles", "notes"]
MIDDLEWARE = ["whitenoise.middleware.WhiteNoiseMiddleware"]
ROOT_URLCONF = "site_.urls"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "collected"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
MANAGE = """
import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_.settings")
execute_from_command_line(sys.argv)
"""
WSGI = """
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_.settings")
application = get_wsgi_application()

from notes.models import Note

print("notes before the first request:", *Note.objects.values_list("text", flat=True), flush=True)
"""
URLS = """
import os

from django.http import HttpResponse
from django.urls import path

from notes.models import Note


def page(request):
    notes = ", ".join(Note.objects.order_by("id").values_list("text", flat=True))
    return HttpResponse(f"{os.environ.get('GREETING', 'Notes')}: {notes}. This is version 1.\\n")


urlpatterns = [path("", page)]
"""
MODELS = """
from django.db import models


class Note(models.Model):
    text = models.TextField()
"""
FIRST = """
from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel("Note", [("id", models.BigAutoField(primary_key=True)), ("text", models.TextField())])
    ]
"""


def noting(before: str, text: str) -> str:
    """Return a migration that follows `before` and makes a note."""
    return f"""
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("notes", "{before}")]
    operations = [
        migrations.RunPython(lambda apps, schema: apps.get_model("notes", "Note").objects.create(text="{text}"))
    ]
"""


DJANGO = {
    "requirements.txt": "Django==5.1.4\ngunicorn==23.0.0\ndj-database-url==2.3.0\nwhitenoise==6.8.2\n"
    "psycopg[binary]==3.2.3\n",
    "Procfile": "release: python manage.py migrate --noinput\n",
    "manage.py": MANAGE,
    "site_/__init__.py": "",
    "site_/settings.py": SETTINGS,
    "site_/urls.py": URLS,
    "site_/wsgi.py": WSGI,
    "notes/__init__.py": "",
    "notes/models.py": MODELS,
    "notes/migrations/__init__.py": "",
    "notes/migrations/0001_initial.py": FIRST,
    "notes/migrations/0002_first.py": noting("0001_initial", "one"),
    "notes/static/notes/site.css": "body { color: teal }\n",
}
SERVICES = {"api": "python-flask", "jobs": "node", "pages": "static"}


async def test_a_django_site_is_migrated_before_its_first_request_and_its_static_files_are_served(
    harbour: Rig,
) -> None:
    app = harbour.checkout("django", DJANGO)
    await harbour.must("apps:create", "django")
    async with postgres(harbour) as url:
        await harbour.must("config:set", "django", f"DATABASE_URL={url}", "SECRET_KEY=s")
        said = await pushed(harbour, app)
        assert "Django in site_/wsgi.py, so web: gunicorn site_.wsgi:application" in said
        assert said.index("Applying notes.0002_first... OK") < said.index("Starting v")
        await harbour.until_logged("django", "notes before the first request: one")
        assert (await harbour.http("django.localhost")).text == "Notes: one. This is version 1.\n"
        css = await harbour.http("django.localhost", "/static/notes/site.css")
        assert (css.status, css.text) == (200, "body { color: teal }\n")
        await harbour.must("config:set", "django", "GREETING=Read")
        await harbour.page("django.localhost", "Read: one. This is version 1.")
        app.write({"notes/migrations/0003_second.py": noting("0002_first", "two")})
        await change(app, "site_/urls.py")
        said = await pushed(harbour, app)
        assert cached(said, "pip install --requirement")
        await harbour.until_logged("django", "notes before the first request: one two")
        assert (await harbour.http("django.localhost")).text == "Read: one, two. This is version 2.\n"
        await harbour.must("apps:destroy", "django", "--force")


def monorepo(boat: Rig) -> Mapping[str, Checkout]:
    """Return one work tree under the names of the three apps that are pushed from it."""
    files = {
        f"services/{app}/{name}": text for app, folder in SERVICES.items() for name, text in files_of(folder).items()
    }
    tree = boat.checkout("api", files)
    return {app: Checkout(boat, tree.folder, app, {}) for app in SERVICES}


async def test_three_apps_are_pushed_from_one_repository_each_from_its_folder(harbour: Rig) -> None:
    apps = monorepo(harbour)
    for app, checkout in apps.items():
        await harbour.must("apps:create", app)
        await harbour.must("builder:set", app, "build-dir", f"services/{app}")
        assert f"with {SERVICES[app].partition('-')[0]}\n" in await pushed(harbour, checkout)
    await change(apps["api"], "services/api/app.py")
    told = {app: await pushed(harbour, checkout) for app, checkout in apps.items()}
    assert cached(told["api"], "pip install --requirement")
    # The folder of this app is as it was, so nothing of it is built again.
    assert cached(told["jobs"], "npm ci") and cached(told["jobs"], "npm run build")
    assert (await harbour.http("api.localhost")).text == "Hello from Flask, you. This is version 2.\n"
    assert "This is version 1." in (await harbour.http("jobs.localhost")).text
    assert "This is version 1." in (await harbour.http("pages.localhost")).text
