"""The tables of a library in PostgreSQL, and their migrations.

They are those of the embedded database, with the types of this one, and with the pictures. A vector's column has no
dimension, because each collection has one of its own. Its row has the collection of its page, which triggers keep
right: a large collection has an index of its own (`postgres_indexing`), and a search without a filter reads no pages.
"""

from __future__ import annotations

SCHEMA_VERSION = 2
CHANNEL = "dormouse"
MIGRATION_LOCK = 0x646F726D6F757365
"""Number of the advisory lock that who changes the schema has: "dormouse" in ASCII."""
SCHEMA = """
CREATE TABLE collections (
  id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key TEXT NOT NULL UNIQUE, owner TEXT NOT NULL DEFAULT '',
  name TEXT COLLATE "C" NOT NULL, created DOUBLE PRECISION NOT NULL, fingerprint TEXT, model TEXT, dimension INTEGER,
  UNIQUE (owner, name)
);
CREATE TABLE pages (
  id TEXT PRIMARY KEY, rowid BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
  collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  file TEXT NOT NULL, sha256 TEXT NOT NULL, page INTEGER NOT NULL, pages INTEGER NOT NULL,
  width INTEGER NOT NULL, height INTEGER NOT NULL, added DOUBLE PRECISION NOT NULL, read BOOLEAN NOT NULL,
  original TEXT NOT NULL DEFAULT '', UNIQUE (collection, sha256, page)
);
CREATE INDEX originals_of ON pages (sha256) WHERE original != '';
CREATE TABLE lines (
  page TEXT NOT NULL REFERENCES pages(id) ON DELETE CASCADE, number INTEGER NOT NULL, text TEXT NOT NULL,
  x0 DOUBLE PRECISION, y0 DOUBLE PRECISION, x1 DOUBLE PRECISION, y1 DOUBLE PRECISION, PRIMARY KEY (page, number)
);
CREATE TABLE vectors (
  page TEXT PRIMARY KEY REFERENCES pages(id) ON DELETE CASCADE, vector halfvec NOT NULL, lines BYTEA,
  collection INTEGER NOT NULL, rowid BIGINT NOT NULL
);
CREATE INDEX vectors_of ON vectors (collection);
CREATE INDEX vectors_with_lines ON vectors (collection) WHERE lines IS NOT NULL;
CREATE TABLE pictures (
  page TEXT PRIMARY KEY REFERENCES pages(id) ON DELETE CASCADE, picture BYTEA NOT NULL, thumbnail BYTEA NOT NULL
);
ALTER TABLE vectors ALTER COLUMN vector SET STORAGE MAIN;
ALTER TABLE vectors ALTER COLUMN lines SET STORAGE EXTERNAL;
ALTER TABLE pictures ALTER COLUMN picture SET STORAGE EXTERNAL;
ALTER TABLE pictures ALTER COLUMN thumbnail SET STORAGE EXTERNAL;
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, rowid BIGINT GENERATED ALWAYS AS IDENTITY,
  collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  target TEXT NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL, total INTEGER NOT NULL,
  asked DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION NOT NULL, keep_until DOUBLE PRECISION NOT NULL
);
CREATE INDEX jobs_of ON jobs (collection);
CREATE TABLE job_files (
  job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, number INTEGER NOT NULL, path TEXT NOT NULL,
  name TEXT NOT NULL, PRIMARY KEY (job, number)
);
CREATE TABLE job_pages (
  job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, sha256 TEXT NOT NULL, page INTEGER NOT NULL,
  id TEXT NOT NULL, unread BOOLEAN NOT NULL, seconds DOUBLE PRECISION NOT NULL, PRIMARY KEY (job, sha256, page)
);
CREATE TABLE job_skips (
  job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, rowid BIGINT GENERATED ALWAYS AS IDENTITY,
  upload INTEGER NOT NULL, file TEXT NOT NULL, page INTEGER NOT NULL, reason TEXT NOT NULL, known BOOLEAN NOT NULL,
  again BOOLEAN NOT NULL
);
CREATE INDEX job_skips_of ON job_skips (job);
CREATE TABLE proofs (one TEXT NOT NULL, other TEXT NOT NULL, proof TEXT NOT NULL, PRIMARY KEY (one, other));
CREATE TABLE job_parts (
  job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, file INTEGER NOT NULL, number INTEGER NOT NULL,
  data BYTEA NOT NULL, PRIMARY KEY (job, file, number)
);
ALTER TABLE job_parts ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE job_leases (
  job TEXT PRIMARY KEY REFERENCES jobs(id) ON DELETE CASCADE, holder TEXT NOT NULL, ends TIMESTAMPTZ NOT NULL
);

CREATE FUNCTION place_vector() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  SELECT collection, rowid INTO NEW.collection, NEW.rowid FROM pages WHERE id = NEW.page;
  RETURN NEW;
END $$;
CREATE TRIGGER vectors_come BEFORE INSERT ON vectors FOR EACH ROW EXECUTE FUNCTION place_vector();
CREATE FUNCTION move_vector() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  UPDATE vectors SET collection = NEW.collection WHERE page = NEW.id;
  RETURN NULL;
END $$;
CREATE TRIGGER vectors_move AFTER UPDATE OF collection ON pages FOR EACH ROW
  WHEN (OLD.collection <> NEW.collection) EXECUTE FUNCTION move_vector();

CREATE FUNCTION tell_of_pages() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_notify('dormouse', c.key) FROM collections c WHERE c.id IN (SELECT collection FROM changed);
  RETURN NULL;
END $$;
CREATE TRIGGER pages_come AFTER INSERT ON pages REFERENCING NEW TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION tell_of_pages();
CREATE TRIGGER pages_go AFTER DELETE ON pages REFERENCING OLD TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION tell_of_pages();
CREATE TRIGGER pages_leave AFTER UPDATE ON pages REFERENCING OLD TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION tell_of_pages();
CREATE TRIGGER pages_arrive AFTER UPDATE ON pages REFERENCING NEW TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION tell_of_pages();
CREATE FUNCTION tell_of_collections() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF TG_OP = 'INSERT' THEN PERFORM pg_notify('dormouse', ''); ELSE PERFORM pg_notify('dormouse', OLD.key); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER collections_change AFTER INSERT OR UPDATE OR DELETE ON collections
  FOR EACH ROW EXECUTE FUNCTION tell_of_collections();
CREATE FUNCTION tell_of_jobs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_notify('dormouse', key) FROM collections
    WHERE id = CASE TG_OP WHEN 'DELETE' THEN OLD.collection ELSE NEW.collection END;
  RETURN NULL;
END $$;
CREATE TRIGGER jobs_change AFTER INSERT OR UPDATE OR DELETE ON jobs
  FOR EACH ROW EXECUTE FUNCTION tell_of_jobs();
CREATE FUNCTION tell_of_skips() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_notify('dormouse', c.key) FROM collections c JOIN jobs j ON j.collection = c.id WHERE j.id = NEW.job;
  RETURN NULL;
END $$;
CREATE TRIGGER skips_come AFTER INSERT ON job_skips FOR EACH ROW EXECUTE FUNCTION tell_of_skips();
CREATE TABLE library_schema (
  version INTEGER NOT NULL, id TEXT NOT NULL DEFAULT gen_random_uuid()::text, pictures TEXT NOT NULL DEFAULT 'rows'
);
INSERT INTO library_schema (version) VALUES (0);
"""
"""Vectors, pictures and files are not packed: they do not get smaller. Vectors stay in their row, up to 4,000 numbers:
exact search takes a third of the time that it takes beside it (docs/design/store-search.md). `library_schema` has one
row: `id` is the store's, `pictures` says whether they are in `rows` or in a `folder`. Whoever makes a change, those who
listen on the channel `dormouse` are told of it with its commit."""
WORDS = """
CREATE TABLE word_pages (
  page TEXT PRIMARY KEY REFERENCES pages(id) ON DELETE CASCADE, number BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
  collection INTEGER NOT NULL, size DOUBLE PRECISION NOT NULL, words TSVECTOR NOT NULL
);
CREATE INDEX word_pages_of ON word_pages (collection);
CREATE INDEX words ON word_pages USING gin (words);
CREATE FUNCTION move_words() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  UPDATE word_pages SET collection = NEW.collection WHERE page = NEW.id;
  RETURN NULL;
END $$;
CREATE TRIGGER words_move AFTER UPDATE OF collection ON pages FOR EACH ROW
  WHEN (OLD.collection <> NEW.collection) EXECUTE FUNCTION move_words();
"""
"""The words of each page, told apart by `words`; `size` is how many different ones it has."""
MIGRATIONS = {0: SCHEMA, 1: WORDS}
"""Statements that bring the tables of each older version to the next one; 0 is a database without tables."""
