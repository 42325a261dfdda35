<?php
file_get_contents("php://input");
if ($_SERVER["REQUEST_METHOD"] === "POST") {
    file_put_contents(getenv("POSTS"), "POST\n", FILE_APPEND | LOCK_EX);
}
header("Content-Type: application/json");
echo '{"status": "success"}';
