"""The safety pieces of the consumers' protocol, each of which can be left out."""

from enum import Enum


class Piece(Enum):
    """A piece; its value says what is done without it."""

    CHECKPOINT_CONDITION = "a checkpoint moves wherever its writer says"
    UPTO_CONDITION = "an item takes every update"
    TRIM_BY_OLD_ITEM = "what an item refuses in part is dropped whole"
    POSITION_CHAIN = "a batch is taken to follow the one before"
    IF_NONE_MATCH = "a second object under one key replaces the first"
    CONTINUE_AT_ITS_NEXT = "whoever finds another's object goes on behind its own"
    LETTER_SCAN = "nobody looks which letters are there"
    LETTER_FENCING = "each producer of letters has a transactional id of its own"
    COMMIT_AFTER_SINK = "the group commits what was handed over"
    SEEK_TO_CHECKPOINT = "a partition is read on from where the group says"
    LOG_RANGE = "nobody asks whether the log still holds what comes next"
    TOPIC_ID = "a topic that was made again is taken for the old one"
