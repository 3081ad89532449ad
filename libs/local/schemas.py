"""A PostgreSQL role and a schema for each service, as statements that may be run again at any time.

A role owns the schema of its own name and sees no other.
"""

import re
from collections.abc import Iterator, Mapping

ADMIN = "postgres"

CLUSTER_OPTIONS = (
    "--encoding=UTF8",
    # Built in, hence the same order of strings on every machine.
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)
"""Of initdb, wherever the database is made."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_PASSWORD = re.compile(r"[A-Za-z0-9_-]+")


def statements(database: str, passwords: Mapping[str, str]) -> Iterator[str]:
    """To be run in `database` by the superuser; `passwords` by role."""
    for name in (database, *passwords):
        assert _NAME.fullmatch(name), f"{name!r} is not a plain name"
    yield f"REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE ALL ON DATABASE {database} FROM PUBLIC;"
    for name, password in passwords.items():
        assert _PASSWORD.fullmatch(password), "a password that needs quoting"
        yield f"""
            DO $$ BEGIN
                IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{name}') THEN CREATE ROLE {name}; END IF;
            END $$;
            ALTER ROLE {name} LOGIN PASSWORD '{password}';
            ALTER ROLE {name} SET search_path = {name};
            GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {name};
            CREATE SCHEMA IF NOT EXISTS {name} AUTHORIZATION {name};
        """
