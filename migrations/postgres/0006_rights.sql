-- What the views that readers have in the database itself are made with. Readers have no way into this
-- schema: the functions beside their views, which run as their owner, call these.

-- A JSON document with fields of it masked: [[path, mask], ...], of which the strictest that covers a field
-- counts. Where `by_paths`, the names of the outermost members are paths, whose indices mean items.
CREATE FUNCTION tidegate.masked_inside(document jsonb, masks jsonb, by_paths boolean, salt bytea, path text DEFAULT '')
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    strictness CONSTANT text[] := ARRAY['month', 'year', 'last4', 'hash', 'null'];
    shown  jsonb;
    name   text;
    member jsonb;
    below  text;
    mask   text;
BEGIN
    IF jsonb_typeof(document) = 'array' THEN
        SELECT coalesce(jsonb_agg(tidegate.masked_inside(item, masks, by_paths, salt, path) ORDER BY place), '[]')
        INTO shown FROM jsonb_array_elements(document) WITH ORDINALITY AS items (item, place);
        RETURN shown;
    END IF;
    IF jsonb_typeof(document) <> 'object' THEN
        RETURN document;
    END IF;
    shown := '{}';
    FOR name, member IN SELECT * FROM jsonb_each(document) LOOP
        below := CASE WHEN path = '' THEN name ELSE path || '.' || name END;
        IF by_paths AND NOT EXISTS (SELECT FROM jsonb_array_elements(masks) AS m
                                    WHERE below = m ->> 0 OR starts_with(below, (m ->> 0) || '.')) THEN
            below := regexp_replace(below, '\[[0-9]+\]', '', 'g');
        END IF;
        SELECT m ->> 1 INTO mask FROM jsonb_array_elements(masks) AS m
        WHERE below = m ->> 0 OR starts_with(below, (m ->> 0) || '.')
        ORDER BY array_position(strictness, m ->> 1) DESC LIMIT 1;
        IF FOUND THEN
            member := tidegate.masked_value(member, mask, salt);
        ELSIF EXISTS (SELECT FROM jsonb_array_elements(masks) AS m
                      WHERE starts_with(m ->> 0, below || '.')) THEN
            member := tidegate.masked_inside(member, masks, by_paths, salt, below);
        END IF;
        shown := shown || jsonb_build_object(name, member);
    END LOOP;
    RETURN shown;
END $$;

-- A text or a number under a mask; anything else is hidden whole.
CREATE FUNCTION tidegate.masked_value(value jsonb, mask text, salt bytea)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    plain CONSTANT text := value #>> '{}';
BEGIN
    IF jsonb_typeof(value) NOT IN ('string', 'number') THEN
        RETURN 'null';
    END IF;
    CASE mask
    WHEN 'hash' THEN
        RETURN to_jsonb(encode(sha256(salt || convert_to(plain, 'UTF8')), 'hex'));
    WHEN 'last4' THEN
        RETURN to_jsonb('****' || CASE WHEN length(plain) > 4 THEN right(plain, 4) ELSE '' END);
    WHEN 'month', 'year' THEN
        IF plain !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}' THEN
            RETURN 'null';
        END IF;
        RETURN to_jsonb(to_char(date_trunc(mask, left(plain, 10)::timestamp), 'YYYY-MM-DD'));
    ELSE
        RETURN 'null';
    END CASE;
EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format THEN
    RETURN 'null';
END $$;

-- What a reader's view and the function beside it are made of, in short. From the catalog alone: to print a
-- definition takes a lock on all that it reads.
CREATE FUNCTION tidegate.view_definition(view regclass) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT md5((SELECT r.ev_action::text FROM pg_rewrite AS r WHERE r.ev_class = c.oid AND r.rulename = '_RETURN') ||
               (SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attnum > 0) ||
               coalesce(array_to_string(c.reloptions, ','), '') ||
               coalesce((SELECT p.prosrc || p.prosecdef || p.proowner ||
                                coalesce(array_to_string(p.proconfig, ','), '')
                         FROM pg_proc AS p
                         WHERE p.pronamespace = c.relnamespace AND p.proname = c.relname
                           AND pg_get_function_identity_arguments(p.oid) = 'tid, oid, integer'), ''))
    FROM pg_class AS c WHERE c.oid = view
$$;

-- Tells in the view's comment what it was made of.
CREATE FUNCTION tidegate.mark_view(reader text, name text, hash text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place CONSTANT text := format('%I.%I', reader, name);
BEGIN
    EXECUTE format('COMMENT ON VIEW %s IS %L', place,
                   'tidegate view ' || hash || ' ' || tidegate.view_definition(place::regclass));
END $$;

-- Takes everybody's rights to a reader's view and the function beside it. Waits for nobody who reads.
CREATE FUNCTION tidegate.shut_view(reader text, name text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place   CONSTANT text := format('%I.%I', reader, name);
    beside  CONSTANT text := place || '(tid, oid, integer)';
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a
        WHERE c.oid = to_regclass(place) AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', place, grantee);
    END LOOP;
    FOR grantee IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM pg_proc AS p CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
        WHERE p.oid = to_regprocedure(beside) AND a.grantee <> p.proowner
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s CASCADE', beside, grantee);
    END LOOP;
END $$;

-- Leaves them to the reader alone.
CREATE FUNCTION tidegate.keep_view(reader text, name text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place  CONSTANT text := format('%I.%I', reader, name);
    beside CONSTANT text := place || '(tid, oid, integer)';
BEGIN
    PERFORM tidegate.shut_view(reader, name);
    EXECUTE format('GRANT SELECT ON %s TO %I', place, reader);
    IF to_regprocedure(beside) IS NOT NULL THEN
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', beside, reader);
    END IF;
END $$;

-- The same of his schema.
CREATE FUNCTION tidegate.keep_schema(reader text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM pg_namespace AS n CROSS JOIN aclexplode(n.nspacl) AS a
        WHERE n.nspname = reader AND a.grantee <> n.nspowner
    LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %s CASCADE', reader, grantee);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', reader, reader);
END $$;
