"""The API in writing: the OpenAPI document, and a page that is made from it."""
