"""What Postgres holds beside the models: triggers, words, partitions, stored vectors, judgements."""
