"""Where jobs leave files: a directory that all machines share, or a bucket of an object store, behind one contract."""
