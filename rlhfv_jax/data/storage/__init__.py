"""How rows lie in files: parquet, JSON, TSV, folders of pictures, buckets."""
