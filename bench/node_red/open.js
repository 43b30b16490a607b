const { Pool } = global.get("pg");
context.set("pool", new Pool({ connectionString: env.get("DATABASE_URL") }));
