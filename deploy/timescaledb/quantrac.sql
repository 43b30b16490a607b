-- At the database's first start: a role and a database for Quantrac. The role is no superuser; the extension is
-- there already, since this image puts it into template1.
\getenv password DATABASE_PASSWORD
CREATE ROLE quantrac LOGIN PASSWORD :'password';
CREATE DATABASE quantrac OWNER quantrac;
