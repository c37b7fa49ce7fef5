"""How the archive is laid out, and the one reader of it.

`keys` names objects, `lines` takes a line apart, `reader` walks a partition's chain over a port,
`bucket` is that port on S3. Needs the extra `analytics` or `stack`: zstandard and boto3 are no
dependencies of the other services.
"""
