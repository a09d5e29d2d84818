"""Region proposal network: where objects may be."""
