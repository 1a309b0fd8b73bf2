"""The user's crystal structures: reading them, their classes, and where they are downloaded."""
