context.get("pool").end();
