"""The live state: the newest blocks of `chat.windows` and `chat.usage`, in memory."""
