"""What a hostile visitor may try, over HTTP; `test_every_row.py` says where each row of S1–S18 is tested."""
