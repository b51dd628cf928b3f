-- Once, as root: the pipeline's database, and whom Vault logs in as. The password is good until it is rotated (README.md).
CREATE DATABASE pipeline;
CREATE TABLE pipeline.builds (id bigint PRIMARY KEY AUTO_INCREMENT, revision char(40) NOT NULL);
CREATE USER 'vault'@'%' IDENTIFIED BY 'until-it-is-rotated';
GRANT ALL ON pipeline.* TO 'vault'@'%' WITH GRANT OPTION;
GRANT CREATE USER ON *.* TO 'vault'@'%';
