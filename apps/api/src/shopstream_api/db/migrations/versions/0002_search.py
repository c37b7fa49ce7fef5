"""Search: the words of each product, the list of all words, and the indexes of filters."""

from typing import Final

from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"

# A combining mark is what normalization takes off a letter. Plain ASCII has none and skips that.
_FUNCTIONS: Final = r"""
CREATE FUNCTION search_text(written text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT RETURN regexp_replace(
    CASE WHEN octet_length(written) = length(written) THEN written
         ELSE regexp_replace(normalize(written, NFKD), '[\u0300-\u036f]', '', 'g') END,
    '[^[:alnum:]]+', ' ', 'g'
);
-- In plpgsql, because array_to_string is not marked immutable: for text arrays it is.
CREATE FUNCTION search_vector(
    name text, sku text, tags text[], category text, description text
) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    found tsvector := setweight(to_tsvector('simple', search_text(name)), 'A');
BEGIN
    IF sku IS NOT NULL OR tags <> '{}' THEN
        found := found || setweight(to_tsvector(
            'simple', search_text(concat_ws(' ', sku, array_to_string(tags, ' ')))
        ), 'B');
    END IF;
    IF category IS NOT NULL THEN
        found := found || setweight(to_tsvector('simple', search_text(category)), 'C');
    END IF;
    IF description IS NOT NULL THEN
        found := found || setweight(to_tsvector('simple', search_text(description)), 'D');
    END IF;
    RETURN found;
END $$;
-- Beginning and end count: two blanks before a word and one behind it.
CREATE FUNCTION search_trigrams(word text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT RETURN array(
    SELECT DISTINCT substr('  ' || word || ' ', at, 3) FROM generate_series(1, length(word) + 1) at
);
CREATE FUNCTION search_word(lexeme text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT RETURN (
    SELECT CASE WHEN length(letters) < 3 THEN NULL
                WHEN letters = lexeme THEN letters ELSE letters || '0' END
    FROM substring(lexeme FROM '^[^0-9]{1,40}') AS letters
);
"""

_TABLES: Final = """
CREATE TABLE search_words (
    -- Beginnings are ranges of this index.
    word     text   COLLATE "C" PRIMARY KEY,
    trigrams text[] NOT NULL GENERATED ALWAYS AS (search_trigrams(word)) STORED
);
CREATE INDEX search_words_trigrams_idx ON search_words USING gin (trigrams);
ALTER TABLE products ADD COLUMN search tsvector NOT NULL
    GENERATED ALWAYS AS (search_vector(name, sku, tags, category, description)) STORED;
-- New entries wait in a list that every search reads and that a writer merges when it is full:
-- short, so that neither takes long.
CREATE INDEX products_search_idx ON products USING gin (search)
    WITH (gin_pending_list_limit = 256) WHERE deleted_at IS NULL;
"""

# Each as the list reads it: narrowed, and in order. Most products are active, and reading the
# whole list finds them soon. Every change of stock sets updated_at: a B-tree on it would make each
# an entry in all indexes; ranges of pages do not, and what changed lately is in few of them.
_FILTERS: Final = """
CREATE INDEX products_category_created_at_id_idx ON products (category, created_at, id)
    WHERE deleted_at IS NULL AND category IS NOT NULL;
CREATE INDEX products_price_created_at_id_idx ON products (price, created_at, id)
    WHERE deleted_at IS NULL;
CREATE INDEX products_status_created_at_id_idx ON products (status, created_at, id)
    WHERE deleted_at IS NULL AND status <> 'active';
CREATE INDEX products_updated_at_idx ON products USING brin (updated_at)
    WITH (pages_per_range = 16, autosummarize = on);
"""

# Typing errors are looked for in words of letters only: an article number has no neighbours. A word
# that begins with letters and goes on with a digit, or for longer than 40, stands there as these
# letters and a zero: so what begins no other word is known. In one order everywhere, so that two
# writers of the same new words do not lock each other out. The settings keep each look-up a descent
# of the index, also by a plan made when there were few words.
_TRIGGERS: Final = """
CREATE FUNCTION search_words_add(found text[]) RETURNS void LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    INSERT INTO search_words (word)
    SELECT DISTINCT f.word COLLATE "C"
    FROM unnest(found) AS l (lexeme), search_word(l.lexeme) AS f (word)
    WHERE f.word IS NOT NULL
      AND NOT EXISTS (SELECT FROM search_words s WHERE s.word = f.word COLLATE "C")
    ORDER BY 1
    ON CONFLICT DO NOTHING
$$;
CREATE FUNCTION search_words_of_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM search_words_add(array(
        SELECT DISTINCT lexeme FROM inserted, unnest(tsvector_to_array(search)) AS lexeme
    ));
    RETURN NULL;
END $$;
CREATE FUNCTION search_words_of_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM search_words_add(tsvector_to_array(NEW.search));
    RETURN NULL;
END $$;
CREATE TRIGGER products_search_insert AFTER INSERT ON products
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION search_words_of_inserted();
-- By row, as only a row's trigger can leave out the many changes of stock.
CREATE TRIGGER products_search_update
    AFTER UPDATE OF name, sku, tags, category, description ON products
    FOR EACH ROW WHEN (OLD.search IS DISTINCT FROM NEW.search)
    EXECUTE FUNCTION search_words_of_updated();
SELECT search_words_add(array(SELECT word FROM ts_stat('SELECT search FROM products')));
"""

_DOWN: Final = """
DROP INDEX products_updated_at_idx;
DROP INDEX products_status_created_at_id_idx;
DROP INDEX products_price_created_at_id_idx;
DROP INDEX products_category_created_at_id_idx;
DROP TRIGGER products_search_update ON products;
DROP TRIGGER products_search_insert ON products;
DROP FUNCTION search_words_of_updated();
DROP FUNCTION search_words_of_inserted();
DROP FUNCTION search_words_add(text[]);
DROP FUNCTION search_word(text);
ALTER TABLE products DROP COLUMN search;
DROP TABLE search_words;
DROP FUNCTION search_trigrams(text);
DROP FUNCTION search_vector(text, text, text[], text, text);
DROP FUNCTION search_text(text);
"""


def upgrade() -> None:
    for statements in (_FUNCTIONS, _TABLES, _FILTERS, _TRIGGERS):
        op.execute(statements)


def downgrade() -> None:
    op.execute(_DOWN)
