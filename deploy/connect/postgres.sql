-- Tables that Debezium's JDBC sink fills, and the view behind both locks.  Safe to run again.
CREATE SCHEMA IF NOT EXISTS objections;

CREATE TABLE IF NOT EXISTS objections.training_users (
    key text PRIMARY KEY, -- product/user_id
    user_id text NOT NULL,
    product text NOT NULL,
    epoch bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS objections.training_content (
    content_id text PRIMARY KEY,
    user_id text NOT NULL,
    revision bigint NOT NULL,
    product text NOT NULL,
    kind text NOT NULL,
    modality text NOT NULL,
    language text,
    created_at timestamptz NOT NULL,
    epoch bigint NOT NULL
);

-- What may be used: read this, never the table of items alone.
CREATE OR REPLACE VIEW objections.usable AS
    SELECT items.* FROM objections.training_content AS items
    JOIN objections.training_users AS users ON users.key = items.product || '/' || items.user_id;

-- The sink writes what it is handed, also an old record handed to it twice.  So a deleted row
-- leaves its key and its (epoch, revision), and nothing that is not newer comes in again.
CREATE TABLE IF NOT EXISTS objections.purged_users (
    key text PRIMARY KEY, epoch bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS objections.purged_content (
    content_id text PRIMARY KEY, epoch bigint NOT NULL, revision bigint NOT NULL
);

CREATE OR REPLACE FUNCTION objections.remember_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO objections.purged_users AS known VALUES (OLD.key, OLD.epoch)
    ON CONFLICT (key) DO UPDATE SET epoch = excluded.epoch WHERE excluded.epoch > known.epoch;
    RETURN OLD;
END $$;
CREATE OR REPLACE FUNCTION objections.remember_content() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO objections.purged_content AS known
    VALUES (OLD.content_id, OLD.epoch, OLD.revision)
    ON CONFLICT (content_id) DO UPDATE SET epoch = excluded.epoch, revision = excluded.revision
    WHERE (excluded.epoch, excluded.revision) > (known.epoch, known.revision);
    RETURN OLD;
END $$;

CREATE OR REPLACE FUNCTION objections.refuse_old_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.epoch > NEW.epoch THEN RETURN NULL; END IF;
    IF EXISTS (SELECT FROM objections.purged_users AS known
               WHERE known.key = NEW.key AND known.epoch >= NEW.epoch) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION objections.refuse_old_content() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.epoch, OLD.revision) > (NEW.epoch, NEW.revision) THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM objections.purged_content AS known
               WHERE known.content_id = NEW.content_id
               AND (known.epoch, known.revision) >= (NEW.epoch, NEW.revision)) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER remember AFTER DELETE ON objections.training_users
    FOR EACH ROW EXECUTE FUNCTION objections.remember_user();
CREATE OR REPLACE TRIGGER remember AFTER DELETE ON objections.training_content
    FOR EACH ROW EXECUTE FUNCTION objections.remember_content();
CREATE OR REPLACE TRIGGER refuse_old BEFORE INSERT OR UPDATE ON objections.training_users
    FOR EACH ROW EXECUTE FUNCTION objections.refuse_old_user();
CREATE OR REPLACE TRIGGER refuse_old BEFORE INSERT OR UPDATE ON objections.training_content
    FOR EACH ROW EXECUTE FUNCTION objections.refuse_old_content();
