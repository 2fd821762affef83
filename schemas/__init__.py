"""The contract: the Avro records, the topics that carry them, and how to read and write them."""
