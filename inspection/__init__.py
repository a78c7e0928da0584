"""Judging one part: bytes in, verdict with evidence and a durable record out."""
