#!/bin/bash
# Run once by the postgres image when it makes its files: two databases, each with a role that can enter no other.
set -euo pipefail
for name in site runs; do
    password=${name^^}_PASSWORD
    psql --quiet --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres \
        --set=name="$name" --set=password="${!password}" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
