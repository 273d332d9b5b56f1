"""Requests, pure: mail to request, facts to verdict, letters."""
